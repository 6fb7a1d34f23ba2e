//! `import "common" as c`: modules beside the script, and from nowhere else.
//!
//! A name is looked up in the folder of the file that imports it. The file it leads to,
//! links followed, must lie under the folder of the script that runs.

use crate::error::{Error, Kind, Result};
use crate::script::engine::state::State;
use crate::script::values::convert::RhaiResultOf;
use crate::{files, suggest};
use rhai::{Engine, EvalAltResult, Module, ModuleResolver, Position, Scope};
use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

#[derive(Clone)]
pub struct BesideTheScript {
    state: State,
    loaded: Rc<RefCell<HashMap<PathBuf, Rc<Module>>>>,
    /// The files that are being loaded now, to find imports in a circle.
    loading: Rc<RefCell<Vec<PathBuf>>>,
}

impl BesideTheScript {
    pub fn new(state: State) -> Self {
        BesideTheScript { state, loaded: Rc::default(), loading: Rc::default() }
    }

    /// Modules are read anew at their next import.
    pub fn forget(&self) {
        self.loaded.borrow_mut().clear();
    }

    /// The file for `name`, as shown to the user, and its one true path.
    fn find(&self, importer: Option<&str>, name: &str) -> Result<(PathBuf, PathBuf)> {
        let Some(root) = self.state.folder() else {
            return Err(Error::input(format!("cannot import \"{name}\": this script is not a file"))
                .with_hint("imports are looked up beside the script's file"));
        };
        let importer = importer.map(Path::new).and_then(Path::parent).unwrap_or(&root);
        let shown = with_extension(&importer.join(name));
        let rooted = Path::new(name).components().any(|part| matches!(part, Component::RootDir | Component::Prefix(_)));
        let jail = root.join(".").canonicalize().map_err(|error| Error::file("open the folder", &root, &error))?;
        if rooted {
            return Err(outside(name));
        }
        match shown.canonicalize() {
            Ok(true_path) if true_path.starts_with(&jail) => Ok((shown, true_path)),
            Ok(_) => Err(outside(name)),
            // Which names exist outside is nobody's business either.
            Err(_) if name.contains("..") => Err(outside(name)),
            Err(_) => Err(missing(name, &shown)),
        }
    }

    fn load(&self, engine: &Engine, shown: &Path, true_path: &Path, place: Position) -> RhaiResultOf<Rc<Module>> {
        let text = files::read_text(shown)?;
        self.state.remember_source(shown, &text);
        let name = shown.display().to_string();
        let inside = |error: Box<EvalAltResult>| Box::new(EvalAltResult::ErrorInModule(name.clone(), error, place));
        let mut ast = engine.compile(&text).map_err(|error| inside(error.into()))?;
        ast.set_source(name.as_str());
        self.loading.borrow_mut().push(true_path.to_path_buf());
        let module = Module::eval_ast_as_new(Scope::new(), &ast, engine);
        self.loading.borrow_mut().pop();
        Ok(Rc::new(module.map_err(inside)?))
    }
}

impl ModuleResolver for BesideTheScript {
    fn resolve(&self, engine: &Engine, source: Option<&str>, name: &str, place: Position) -> RhaiResultOf<Rc<Module>> {
        let at = |error: Error| {
            let mut error: Box<EvalAltResult> = error.into();
            error.set_position(place);
            error
        };
        let (shown, true_path) = self.find(source, name).map_err(at)?;
        if let Some(module) = self.loaded.borrow().get(&true_path) {
            return Ok(module.clone());
        }
        if self.loading.borrow().contains(&true_path) {
            return Err(at(Error::input(format!("\"{name}\" imports itself, directly or through others"))
                .with_hint("put what both need into a third file")));
        }
        let module = self.load(engine, &shown, &true_path, place)?;
        self.loaded.borrow_mut().insert(true_path, module.clone());
        Ok(module)
    }
}

fn with_extension(path: &Path) -> PathBuf {
    match path.extension() {
        Some(extension) if extension == "rhai" => path.to_path_buf(),
        _ => {
            let mut name = path.as_os_str().to_os_string();
            name.push(".rhai");
            PathBuf::from(name)
        }
    }
}

fn outside(name: &str) -> Error {
    Error::input(format!("cannot import \"{name}\": it is outside the script's folder"))
        .with_hint("copy the module beside the script")
}

fn missing(name: &str, shown: &Path) -> Error {
    let folder = shown.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let beside: Vec<String> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".rhai").map(str::to_string))
        .collect();
    let error = Error::new(Kind::File, format!("cannot import \"{name}\": there is no file `{}`", shown.display()));
    match suggest::nearest(name, beside.iter().map(String::as_str)) {
        Some(near) => error.with_hint(format!("did you mean \"{near}\"?")),
        None => error,
    }
}

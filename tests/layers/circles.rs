//! Circles of files: `a.rs` imports from `b.rs`, which imports from `a.rs`, by way of others or not.
//!
//! A file imports another if a path in it leads into the other's module. A name that a module
//! re-exports counts for the file that defines it, and the re-export itself is no import. Tests
//! (`#[cfg(test)]`) are left out: they may use what is built on their file.
//!
//! The search is our own: a graph library tells which files lie on circles, and the message needs
//! the way around.

use super::paths::{module_path, NamedPath, Source};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

/// The files of a folder, by their paths within it, and the files that each imports.
pub type Graph = BTreeMap<String, BTreeSet<String>>;

/// Re-exports that a path may lead through, so that two that name each other end.
const REEXPORTS: usize = 8;

/// All modules of the crate with what they import.
pub struct Modules<'a> {
    modules: BTreeMap<Vec<String>, Module<'a>>,
}

#[derive(Default)]
struct Module<'a> {
    /// As in [`Source::file`].
    file: &'a str,
    /// The `use` items outside tests.
    imports: Vec<&'a NamedPath>,
}

impl<'a> Modules<'a> {
    pub fn new(sources: &'a [Source]) -> Modules<'a> {
        let mut modules: BTreeMap<Vec<String>, Module> = BTreeMap::new();
        for source in sources {
            modules.entry(module_path(Path::new(&source.file))).or_default().file = &source.file;
            for path in source.paths.iter().filter(|path| !path.is_test) {
                let module = modules.entry(path.module.clone()).or_default();
                module.file = &source.file;
                module.imports.extend(path.import.as_ref().map(|_| path));
            }
        }
        Modules { modules }
    }

    /// The files below `folder` of `sources` and which of them each imports.
    pub fn graph(&self, sources: &[Source], folder: &str) -> Graph {
        let within = |file: &str| file.strip_prefix(folder).and_then(|file| file.strip_prefix('/')).map(str::to_owned);
        let mut graph = Graph::new();
        for source in sources {
            let Some(file) = within(&source.file) else { continue };
            let paths = source.paths.iter().filter(|path| !path.is_test && !self.reexports_below(path));
            let targets = paths.flat_map(|path| self.targets(path, REEXPORTS)).filter_map(within);
            graph.insert(file.clone(), targets.filter(|target| *target != file).collect());
        }
        graph
    }

    /// Whether this is a `pub use` of something in a module below the one that says so.
    fn reexports_below(&self, path: &NamedPath) -> bool {
        let is_public = path.import.as_ref().is_some_and(|import| import.is_public);
        let target = self.absolute(path).unwrap_or_default();
        is_public && target.len() > path.module.len() && target.starts_with(&path.module)
    }

    /// The path from the root of the crate; `None` where it leads to another crate, or is a
    /// name of this module.
    fn absolute(&self, path: &NamedPath) -> Option<Vec<String>> {
        if let Some((names, _)) = path.below_root() {
            return Some(names.into_iter().map(str::to_owned).collect());
        }
        let mut child = path.module.clone();
        child.push(path.names.first()?.0.clone());
        let rest = || path.names[1..].iter().map(|(name, _)| name.clone());
        self.modules.contains_key(&child).then(|| child.into_iter().chain(rest()).collect())
    }

    /// The files that a path leads to; several only for a glob.
    fn targets(&self, path: &NamedPath, reexports: usize) -> BTreeSet<&'a str> {
        match self.absolute(path) {
            Some(names) => self.files(&names, reexports),
            None => self.files_of_name(&path.module, &names_of(path), reexports),
        }
    }

    /// The files of a path from the root.
    fn files(&self, names: &[String], reexports: usize) -> BTreeSet<&'a str> {
        let depth = (0..=names.len()).rev().find(|depth| self.modules.contains_key(&names[..*depth])).unwrap_or(0);
        let Some(module) = self.modules.get(&names[..depth]) else { return BTreeSet::new() };
        let rest = &names[depth..];
        let imported = self.files_of_name(&names[..depth], rest, reexports);
        match rest.first() {
            Some(name) if name == "*" => imported.into_iter().chain([module.file]).collect(),
            Some(_) if !imported.is_empty() => imported,
            _ => BTreeSet::from([module.file]),
        }
    }

    /// The files of a name that `module` imports, of all of them for `*`; none where it does not.
    fn files_of_name(&self, module: &[String], names: &[String], reexports: usize) -> BTreeSet<&'a str> {
        let (Some(module), Some(name), Some(left)) =
            (self.modules.get(module), names.first(), reexports.checked_sub(1))
        else {
            return BTreeSet::new();
        };
        let imports = module.imports.iter().filter(|path| {
            let alias = path.import.as_ref().map(|import| import.alias.as_str());
            name == "*" || alias == Some(name)
        });
        let files = imports.flat_map(|path| match self.absolute(path) {
            Some(target) => self.files(&target.into_iter().chain(names[1..].to_vec()).collect::<Vec<_>>(), left),
            None => BTreeSet::new(),
        });
        files.collect()
    }
}

fn names_of(path: &NamedPath) -> Vec<String> {
    path.names.iter().map(|(name, _)| name.clone()).collect()
}

/// For every import that lies on a circle, the shortest circle through it: `a.rs → b.rs → a.rs`.
pub fn circles(graph: &Graph) -> BTreeSet<String> {
    let imports = graph.iter().flat_map(|(file, targets)| targets.iter().map(move |target| (file, target)));
    let circles = imports.filter_map(|(file, target)| {
        let mut circle = way(graph, target, file)?;
        let first = (0..circle.len()).min_by_key(|place| circle[*place])?;
        circle.rotate_left(first);
        circle.push(circle[0]);
        Some(circle.join(" → "))
    });
    circles.collect()
}

/// The files on the shortest way from one to the other, both included: a breadth-first search.
fn way<'a>(graph: &'a Graph, from: &'a str, to: &str) -> Option<Vec<&'a str>> {
    let mut ways = VecDeque::from([vec![from]]);
    let mut seen = BTreeSet::from([from]);
    while let Some(way) = ways.pop_front() {
        let last = way.last()?;
        if *last == to {
            return Some(way);
        }
        for next in graph.get(*last).into_iter().flatten() {
            if seen.insert(next) {
                ways.push_back(way.iter().copied().chain([next.as_str()]).collect());
            }
        }
    }
    None
}

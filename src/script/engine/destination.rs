//! The folder that a script's sweep goes to, as far as it can be said without running the script.

use super::args;
use super::session::Session;
use crate::script::language::render::Failure;
use rhai::{ASTNode, Expr, AST};
use std::collections::BTreeSet;
use std::path::Path;

impl Session {
    /// The `out` of a script: its setting `out`, with the values that were set; or the only text that a map in the
    /// script has as `out`. `None` where it is computed, or where there are several.
    ///
    /// # Errors
    /// A script that cannot be read; a value for a setting that the script does not have or that is of another type.
    pub fn out_of_file(&mut self, path: &Path) -> Result<Option<String>, Failure> {
        let ast = self.declare_settings(path)?;
        let (defaults, values) = (self.state.declared(), self.state.set_values());
        let settings = match (defaults, values.first()) {
            (Some(defaults), _) => args::resolve(&defaults, &values)?,
            (None, Some((key, _))) => return Err(args::takes_none(key).into()),
            (None, None) => return Ok(only_text(&ast)),
        };
        let out = settings.get("out").and_then(|out| out.clone().into_string().ok());
        Ok(out.filter(|out| !out.is_empty()).or_else(|| only_text(&ast)))
    }
}

fn only_text(ast: &AST) -> Option<String> {
    let mut texts = BTreeSet::new();
    let mut is_computed = false;
    ast.walk(&mut |path| {
        if let Some(ASTNode::Expr(Expr::Map(entries, _))) = path.last() {
            let out = entries.0.iter().find(|(key, _)| key.name == "out").map(|(_, value)| value);
            match out {
                Some(Expr::StringConstant(text, _)) => drop(texts.insert(text.to_string())),
                Some(_) => is_computed = true,
                None => {}
            }
        }
        true
    });
    texts.pop_first().filter(|_| texts.is_empty() && !is_computed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::on_large_stack;

    fn out_of(script: &str, values: &[(&str, &str)]) -> Result<Option<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.rhai");
        std::fs::write(&path, script).unwrap();
        let outcome = on_large_stack(|| {
            let mut session = Session::new();
            values.iter().for_each(|(key, value)| session.set(key, value));
            session.out_of_file(&path).map_err(|failure| failure.error.message)
        });
        outcome.unwrap()
    }

    #[test]
    fn a_setting_named_out_says_it() {
        let script = "let cfg = args(#{ out: \"runs/a\", lr: 1e-3 });\nsweep(#{ out: cfg.out + \"/x\" });";
        assert_eq!(out_of(script, &[]), Ok(Some("runs/a".into())));
        assert_eq!(out_of(script, &[("out", "runs/b")]), Ok(Some("runs/b".into())));
        assert_eq!(out_of(script, &[("ou", "b")]).unwrap_err(), "--set ou: the script has no such setting");
        assert_eq!(out_of("print(1)", &[("a", "1")]).unwrap_err(), "--set a: the script has no settings");
    }

    #[test]
    fn a_single_text_says_it_and_a_computed_one_does_not() {
        let literal = "let cfg = args(#{ lr: 1e-3 });\nlet r = sweep(#{ lr: cfg.lr, out: \"runs/c\" });";
        assert_eq!(out_of(literal, &[]), Ok(Some("runs/c".into())));
        assert_eq!(out_of("fn f() { sweep(#{ out: \"runs/d\" }) } f();", &[]), Ok(Some("runs/d".into())));
        for script in [
            "let name = \"a\"; sweep(#{ out: \"runs/\" + name });",
            "sweep(#{ out: \"runs/a\" }); sweep(#{ out: \"runs/b\" });",
            "let n = \"b\"; sweep(#{ out: \"runs/a\" }); train(#{ out: n });",
            "sweep(#{ lr: 1 });",
        ] {
            assert_eq!(out_of(script, &[]), Ok(None), "{script}");
        }
    }
}

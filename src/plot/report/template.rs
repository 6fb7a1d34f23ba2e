//! HTML pages from templates; a page contains everything and loads nothing.
//!
//! The template engine escapes every value that a template does not mark as safe, and no control character is left. `page.css` is shared by the
//! pages; `report.js` is the report's script.

use crate::error::{Error, Result};
use crate::foreign;
use crate::plot::render::font::FAMILY;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::Environment;
use serde::Serialize;

/// The page that `template` makes of `values`.
pub fn render(template: &str, values: &impl Serialize) -> Result<String> {
    let mut engine = Environment::new();
    let failed = |error: minijinja::Error| Error::bug(format!("cannot write the page: {error:#}"));
    engine.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(failed)?);
    engine.add_global("fonts", FAMILY);
    engine.add_template("page.css", include_str!("page.css")).map_err(failed)?;
    engine.add_template("report.js", include_str!("report.js")).map_err(failed)?;
    // The extension of the name turns escaping on.
    engine.add_template("page.html", template).map_err(failed)?;
    let page = engine.get_template("page.html").and_then(|page| page.render(Serde(values))).map_err(failed)?;
    Ok(foreign::json(&page).into_owned())
}

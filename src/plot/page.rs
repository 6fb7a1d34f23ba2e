//! HTML pages from templates that hold everything and load nothing.
//!
//! Every value is text and is escaped by the template engine, but for what a template marks as
//! safe. The look that the pages share is in `page.css`; `report.js` is a page's script.

use super::font::FAMILY;
use crate::error::{Error, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::Environment;
use serde::Serialize;

/// The page that `template` makes of `values`.
pub fn render(template: &str, values: &impl Serialize) -> Result<String> {
    let mut engine = Environment::new();
    let written = |error: minijinja::Error| Error::bug(format!("cannot write the page: {error:#}"));
    engine.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(written)?);
    engine.add_global("fonts", FAMILY);
    engine.add_template("page.css", include_str!("page.css")).map_err(written)?;
    engine.add_template("report.js", include_str!("report.js")).map_err(written)?;
    // The ending of its name is what turns escaping on.
    engine.add_template("page.html", template).map_err(written)?;
    engine.get_template("page.html").and_then(|page| page.render(Serde(values))).map_err(written)
}

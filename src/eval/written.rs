//! What candidates write after prompts, for metrics over text.

use super::candidate::Candidate;
use super::generate;
use crate::error::{Error, Result};
use crate::lora::{AdapterSet, Model};

/// How long and up to where to write.
#[derive(Debug, Clone)]
pub struct Settings {
    pub max_new_tokens: usize,
    /// The text ends before the first of these.
    pub until: Vec<String>,
}

/// The greedy continuation of every prompt by every candidate: `[candidates][prompts]`.
pub fn texts(
    model: &Model,
    candidates: &[Candidate],
    prompts: &[String],
    settings: &Settings,
) -> Result<Vec<Vec<String>>> {
    if settings.until.iter().any(String::is_empty) {
        return Err(Error::input("`until`: expected texts of at least one character, found an empty one"));
    }
    let each = |candidate: &Candidate| {
        let written = prompts.iter().enumerate().map(|(at, prompt)| {
            let text = continued(model, candidate, prompt, settings.max_new_tokens);
            Ok(cut(&text.map_err(|error| error.context(format!("row {at}")))?, &settings.until).to_owned())
        });
        written.collect()
    };
    candidates.iter().map(each).collect()
}

/// The one call of generation here.
fn continued(model: &Model, candidate: &Candidate, prompt: &str, max_new_tokens: usize) -> Result<String> {
    let tokenizer = model.tokenizer()?;
    let adapters = candidate.adapter.map_or_else(AdapterSet::default, |adapter| AdapterSet::one(adapter, None));
    let prompt = tokenizer.encode(prompt, true)?;
    let fresh = generate::greedy(model.decoder(), &adapters, &prompt, max_new_tokens, tokenizer.end_ids())?;
    tokenizer.decode(&fresh, true)
}

fn cut<'a>(text: &'a str, until: &[String]) -> &'a str {
    let end = until.iter().filter_map(|stop| text.find(stop.as_str())).min();
    &text[..end.unwrap_or(text.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_stop_text_ends_it() {
        let until = ["\n".to_owned(), "Q:".to_owned()];
        assert_eq!(cut("four Q: five\n", &until), "four ");
        assert_eq!(cut("four", &until), "four");
    }
}

//! The adapters of a model in folders: the active one saved, one loaded and made active.

use super::convert;
use super::model::Model;
use super::peft;
use crate::error::Result;
use crate::hub::tokenizer::chat_template_in;
use std::path::Path;

impl Model {
    /// Saves the active adapter as peft does, with the tokenizer's files beside it. With `as_lora`, a PiSSA or OLoRA
    /// adapter is turned into an ordinary LoRA. Returns notes on what other programs do with it.
    ///
    /// # Errors
    /// No active adapter, or files that cannot be written.
    pub fn save_adapter(&self, folder: &Path, as_lora: bool, overwrite: bool) -> Result<Vec<String>> {
        let (adapter, config) = (self.adapted.adapter(None)?, &self.decoder().config);
        let converted = if as_lora { Some(convert::to_lora(adapter, config)?) } else { None };
        let adapter = converted.as_ref().unwrap_or(adapter);
        peft::save(adapter, &self.name, self.tokenizer().ok(), folder, overwrite)?;
        Ok(peft::deployment_notes(adapter, config))
    }

    /// Loads the adapter that lorhai or peft saved in `folder`, or in that of a run, as `name`, and makes it the active
    /// one. Calls `on_file` with each file that it reads. Returns notes for the user.
    ///
    /// # Errors
    /// Files that are missing or that do not fit the model, or a name that is taken.
    pub fn load_adapter(&mut self, folder: &Path, name: &str, on_file: &mut dyn FnMut(&Path)) -> Result<Vec<String>> {
        let mut notes = Vec::new();
        let adapter_folder = peft::find(folder)?;
        if adapter_folder != folder {
            notes.push(format!("load_adapter: the adapter is in `{}`", adapter_folder.display()));
        }
        peft::FILES.iter().for_each(|file| on_file(&adapter_folder.join(file)));
        let adapter = peft::load(&adapter_folder, self.decoder())?;
        notes.extend(adapter.notes.iter().cloned());
        notes.extend(self.template_note(&adapter_folder)?);
        self.adapted.insert(name, adapter)?;
        Ok(notes)
    }

    /// An adapter may have been trained on another chat template than the model would chat by.
    fn template_note(&self, folder: &Path) -> Result<Option<String>> {
        let Some(template) = chat_template_in(folder)? else { return Ok(None) };
        let current = self.tokenizer().ok().and_then(|tokenizer| tokenizer.chat_template());
        if current == Some(template.as_str()) {
            return Ok(None);
        }
        let file = folder.join("chat_template.jinja");
        let advice = if file.is_file() {
            format!("to chat by it: model.chat_template = read_text(\"{}\")", file.display())
        } else {
            "to chat by it, set model.chat_template to the one in its tokenizer_config.json".to_owned()
        };
        let of_model = if current.is_some() { "keeps another" } else { "has none" };
        Ok(Some(format!("the adapter's folder holds a chat template, and the model {of_model}; {advice}")))
    }
}

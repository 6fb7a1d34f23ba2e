//! The state of a run that goes on: the first process reads the checkpoint and gives its state to all.

use super::Processes;
use crate::error::{Error, Result};
use crate::model::Parameters;
use crate::train::checkpoint::state::RunNumbers;
use crate::train::checkpoint::RunState;
use tch::{Device, Tensor};

impl Processes {
    /// The state that the first process has, if any, in each process.
    ///
    /// # Errors
    /// A state of other parameters; a process that ended.
    pub fn share_state(&self, state: Option<RunState>, parameters: &Parameters) -> Result<Option<RunState>> {
        let fits = state.as_ref().map_or(Ok(()), |state| state.ensure_fits(parameters));
        self.meet("the checkpoint", fits)?;
        let header = match &state {
            Some(state) => serde_json::to_string(&state.numbers)
                .map_err(|error| Error::bug(format!("the state of a run is no JSON: {error}")))?,
            None => String::new(),
        };
        let header = self.text_of(0, &header)?;
        if header.is_empty() {
            return Ok(None);
        }
        let numbers: RunNumbers = serde_json::from_str(&header)
            .map_err(|error| Error::bug(format!("the state of a run came damaged from process 0: {error}")))?;
        let names: Vec<&str> = state.iter().flat_map(RunState::tensors).map(|(name, _)| name).collect();
        let names = self.text_of(0, &names.join("\n"))?;
        let mut tensors: Vec<(String, Tensor)> = Vec::new();
        for name in names.lines() {
            let own = state.as_ref().and_then(|state| state.tensors().find(|(known, _)| *known == name));
            let tensor = match own {
                Some((_, tensor)) => tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?,
                None => Tensor::f_zeros([parameters.count() as i64], (parameters.flat().f_kind()?, Device::Cpu))?,
            };
            self.group.broadcast(&tensor, 0)?;
            tensors.push((name.to_owned(), tensor));
        }
        let find =
            |name: &str| tensors.iter().find(|(known, _)| known == name).map(|(_, tensor)| tensor.shallow_clone());
        RunState::assemble(numbers, |name| Ok(find(name))).map(Some)
    }
}

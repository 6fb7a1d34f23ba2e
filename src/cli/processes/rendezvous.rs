//! Where processes meet, and which of them this one is: from the variables that torchrun and Slurm set.

use crate::bail;
use crate::error::{Error, Kind, Result};
use crate::native::process_group::Membership;
use std::time::Duration;

/// The address of this machine where all processes are on it.
pub const LOOPBACK: &str = "127.0.0.1";

/// The variables of torchrun, which `lorhai run --processes` sets too.
pub const RANK: &str = "RANK";
pub const SIZE: &str = "WORLD_SIZE";
pub const LOCAL_RANK: &str = "LOCAL_RANK";
pub const LOCAL_SIZE: &str = "LOCAL_WORLD_SIZE";
pub const HOST: &str = "MASTER_ADDR";
pub const PORT: &str = "MASTER_PORT";
/// "True" where who started the processes serves the rendezvous.
pub const IS_SERVED: &str = "TORCHELASTIC_USE_AGENT_STORE";
pub const RUN: &str = "TORCHELASTIC_RUN_ID";
pub const RESTARTS: &str = "TORCHELASTIC_RESTART_COUNT";

/// Ports for jobs of Slurm: outside of those that systems give away.
const FIRST_PORT: u64 = 20_000;
const PORTS: u64 = 10_000;

/// One of several processes, and where they meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendezvous {
    pub rank: usize,
    pub size: usize,
    pub host: String,
    pub port: u16,
    /// Does this process serve the rendezvous?
    pub is_server: bool,
    /// Are all processes on one machine?
    pub is_local: bool,
    /// Names this start of the processes: torchrun starts them again at the same rendezvous.
    pub prefix: String,
}

type Variable<'a> = dyn Fn(&str) -> Option<String> + 'a;

impl Rendezvous {
    /// # Errors
    /// Variables that are missing or no numbers.
    pub fn from_variables(variable: &Variable) -> Result<Self> {
        if variable(RANK).is_some() && variable(SIZE).is_some() {
            return Self::of_torchrun(variable);
        }
        if variable("SLURM_PROCID").is_some() {
            return Self::of_slurm(variable);
        }
        bail!(Kind::Input, "--data-parallel: expected the variables that torchrun or srun sets for each process, found neither {RANK} and {SIZE} nor SLURM_PROCID";
            hint: "on one machine, `lorhai run FILE --processes N` starts the processes itself")
    }

    fn of_torchrun(variable: &Variable) -> Result<Self> {
        let (rank, size) = (number(variable, RANK)?, number(variable, SIZE)?);
        let host = variable(HOST).ok_or_else(|| missing(HOST, "the machine of process 0"))?;
        let is_served = variable(IS_SERVED).is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1");
        let start = [RUN, RESTARTS].map(|name| variable(name).unwrap_or_default()).join("-");
        Self {
            rank,
            size,
            host,
            port: number(variable, PORT)?,
            is_server: rank == 0 && !is_served,
            is_local: variable(LOCAL_SIZE).is_some_and(|local| local.trim() == size.to_string()),
            prefix: format!("lorhai-{start}"),
        }
        .checked()
    }

    fn of_slurm(variable: &Variable) -> Result<Self> {
        let first_of = |names: &[&str]| names.iter().find_map(|name| variable(name));
        let rank = number(variable, "SLURM_PROCID")?;
        let size = first_of(&["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"]);
        let size = size.ok_or_else(|| missing("SLURM_NTASKS", "the number of tasks"))?;
        let nodes = first_of(&["SLURM_STEP_NODELIST", "SLURM_NODELIST", "SLURM_JOB_NODELIST"]);
        let host = variable(HOST).or_else(|| first_host(&nodes?));
        let (job, step) = (variable("SLURM_JOB_ID"), variable("SLURM_STEP_ID"));
        let port = match variable(PORT) {
            Some(_) => number(variable, PORT)?,
            None => {
                let id = |text: &Option<String>| text.as_ref().and_then(|text| text.trim().parse::<u64>().ok());
                // Steps of a job may run at the same time.
                let sum = id(&job).unwrap_or(0).wrapping_add(id(&step).unwrap_or(0).wrapping_mul(101));
                (FIRST_PORT + sum % PORTS) as u16
            }
        };
        let node_count = first_of(&["SLURM_STEP_NUM_NODES", "SLURM_NNODES"]);
        let is_local = node_count.is_some_and(|count| count.trim() == "1");
        let host = if is_local && variable(HOST).is_none() { Some(LOOPBACK.to_owned()) } else { host };
        Self {
            rank,
            size: parsed("SLURM_NTASKS", &size)?,
            host: host.ok_or_else(|| missing("SLURM_NODELIST", "the machines of the tasks"))?,
            port,
            is_server: rank == 0,
            is_local,
            prefix: format!("lorhai-{}-{}", job.unwrap_or_default(), step.unwrap_or_default()),
        }
        .checked()
    }

    fn checked(self) -> Result<Self> {
        if self.size >= 1 && self.rank < self.size {
            return Ok(self);
        }
        bail!(
            Kind::Input,
            "--data-parallel: expected a number of processes and one below it for this one, found {} and {}",
            self.size,
            self.rank
        )
    }

    pub fn membership(&self, timeout: Duration) -> Membership {
        Membership {
            rank: self.rank,
            size: self.size,
            prefix: self.prefix.clone(),
            host: self.is_local.then(|| LOOPBACK.to_owned()),
            timeout,
        }
    }
}

fn missing(name: &str, what: &str) -> Error {
    Error::input(format!("--data-parallel: expected {what} in the variable {name}, found none"))
        .with_hint("start the processes by torchrun or srun, or on one machine by `lorhai run FILE --processes N`")
}

fn number<T: std::str::FromStr>(variable: &Variable, name: &str) -> Result<T> {
    parsed(name, &variable(name).ok_or_else(|| missing(name, "a number"))?)
}

fn parsed<T: std::str::FromStr>(name: &str, text: &str) -> Result<T> {
    text.trim()
        .parse()
        .map_err(|_| Error::input(format!("--data-parallel: {name}: expected a number, found \"{text}\"")))
}

/// The first host of a list such as `gpu[03-05,9],login`, by Slurm's rules.
fn first_host(list: &str) -> Option<String> {
    let mut depth = 0;
    let first = list.trim().split(|character: char| {
        depth += i32::from(character == '[') - i32::from(character == ']');
        character == ',' && depth == 0
    });
    let mut rest = first.take(1).next()?;
    let mut host = String::new();
    while let Some((before, behind)) = rest.split_once('[') {
        let (ranges, after) = behind.split_once(']')?;
        host.push_str(before);
        host.push_str(ranges.split([',', '-']).next()?);
        rest = after;
    }
    host.push_str(rest);
    Some(host).filter(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(variables: &[(&str, &str)]) -> Result<Rendezvous> {
        let find =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
        Rendezvous::from_variables(&find)
    }

    #[test]
    fn the_first_host_of_slurms_list() {
        for (list, host) in [
            ("node7", "node7"),
            ("node7,node8", "node7"),
            ("gpu[03-05,9],login", "gpu03"),
            ("a[7,9]", "a7"),
            ("rack[1-2]n[04-6].lab", "rack1n04.lab"),
        ] {
            assert_eq!(first_host(list).as_deref(), Some(host), "{list}");
        }
        assert_eq!(first_host(""), None);
    }

    #[test]
    fn torchrun_serves_the_meeting_point() {
        let base = [(RANK, "0"), (SIZE, "4"), (HOST, "h"), (PORT, "29500"), (LOCAL_SIZE, "2"), (RESTARTS, "1")];
        let one = of(&base).unwrap();
        assert_eq!((one.rank, one.size, one.port, one.is_server, one.is_local), (0, 4, 29500, true, false));
        let served = of(&[&base[..], &[(IS_SERVED, "True")]].concat()).unwrap();
        assert!(!served.is_server && served.prefix == one.prefix);
        assert!(of(&[(RANK, "4"), (SIZE, "4"), (HOST, "h"), (PORT, "1")]).is_err());
        let error = of(&[(RANK, "x"), (SIZE, "4"), (HOST, "h"), (PORT, "1")]).unwrap_err().to_string();
        assert!(error.contains("RANK: expected a number, found \"x\""), "{error}");
        assert!(of(&[(RANK, "0"), (SIZE, "1")]).unwrap_err().to_string().contains("MASTER_ADDR"));
        assert!(of(&[]).unwrap_err().to_string().contains("SLURM_PROCID"));
    }

    #[test]
    fn tasks_of_a_slurm_job_meet_at_its_first_node() {
        let job = [("SLURM_PROCID", "3"), ("SLURM_NTASKS", "4"), ("SLURM_NODELIST", "n[2-3]"), ("SLURM_NNODES", "2")];
        let ids = [("SLURM_JOB_ID", "31415"), ("SLURM_STEP_ID", "0")];
        let one = of(&[&job[..], &ids].concat()).unwrap();
        assert_eq!((one.host.as_str(), one.port, one.is_server, one.is_local), ("n2", 21_415, false, false));
        let named = of(&[&job[..], &ids, &[(HOST, "h"), (PORT, "7")]].concat()).unwrap();
        assert_eq!((named.host.as_str(), named.port), ("h", 7));
        let alone = [("SLURM_PROCID", "0"), ("SLURM_NTASKS", "2"), ("SLURM_NODELIST", "n2"), ("SLURM_NNODES", "1")];
        let alone = of(&alone).unwrap();
        assert_eq!((alone.host.as_str(), alone.is_server, alone.is_local), (LOOPBACK, true, true));
    }
}

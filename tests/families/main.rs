//! The parity harness: families of models against transformers and PEFT, on random tiny configurations.
//!
//! `declarations.py` says what the configurations of a family are made of. `parity.py` builds them by transformers, and
//! writes what transformers and PEFT compute; `compare.rs` repeats it here, and saves files that `check.py` reads with
//! transformers and PEFT again. `table.rs` shows the worst deviation of each property, by family.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;
mod compare;
mod export;
mod peer;
mod table;

use common::cases::Case;
use common::files::read_json;
use lorhai::lora::adapter::{count_line, trainable_count};
use lorhai::lora::{LoraSpec, Targets};
use lorhai::model::Config;
use std::path::{Path, PathBuf};
use table::{Property, Table};

/// The least number of configurations of each family; `LORHAI_FAMILY_CASES` sets another.
const CASES: usize = 6;

#[test]
#[ignore = "needs torch, transformers, peft and trl: set PEER_PYTHON"]
fn families_compute_what_transformers_computes() {
    // The models are tiny.
    tch::set_num_threads(1);
    tch::manual_seed(0);
    let families = peer::supported_families();
    let count = std::env::var("LORHAI_FAMILY_CASES").map_or(CASES, |count| count.parse().unwrap());
    // Kept where a variable names it, to look at.
    let scratch = tempfile::tempdir().unwrap();
    let folder = std::env::var_os("LORHAI_FAMILY_FOLDER").map_or(scratch.path().to_owned(), PathBuf::from);
    let mut table = Table::default();
    for family in &families {
        println!("{family}: drawing");
        peer::run(&["draw", folder.to_str().unwrap(), &count.to_string(), family]);
        for case in cases_in(&folder.join(family)) {
            let name = format!("{family}/{}", case.name);
            table.attempt(family, &name, || compare::compare(&case));
            table.attempt(family, &name, || export::save_all(&case));
        }
        peer::run(&["check", folder.join(family).to_str().unwrap()]);
        for case in cases_in(&folder.join(family)) {
            table.attempt(family, &format!("{family}/{}", case.name), || export::checked(&case));
        }
    }
    counts(&folder, &families, &mut table);
    println!("{table}");
    table.ensure_within_limits();
}

fn cases_in(family: &Path) -> Vec<Case> {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(family).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders.into_iter().filter_map(Case::open).collect()
}

/// The parameters of real models, from their configurations alone.
fn counts(folder: &Path, families: &[String], table: &mut Table) {
    let path = folder.join("counts.json");
    let mut arguments = vec!["counts", path.to_str().unwrap()];
    arguments.extend(families.iter().map(String::as_str));
    peer::run(&arguments);
    for one in read_json(&path).as_array().unwrap() {
        let (name, family) = (one["name"].as_str().unwrap(), one["config"]["model_type"].as_str().unwrap());
        table.attempt(family, name, || {
            let config = Config::from_json(&one["config"])?;
            let names = one["target_modules"].as_array();
            let names = names.map(|names| names.iter().map(|name| name.as_str().unwrap().to_owned()).collect());
            let target_modules = names.map_or(Targets::AllLinear, Targets::Names);
            let spec = LoraSpec { r: 16, target_modules, ..LoraSpec::default() };
            let trainable = trainable_count(&spec, &config)?;
            let line = count_line(trainable, config.parameter_count() + trainable);
            let is_equal = line == one["line"].as_str().unwrap();
            println!("{name}: {line}{}", if is_equal { "" } else { ": not what PEFT counts" });
            Ok(vec![(Property::Counts, if is_equal { 0.0 } else { 1.0 })])
        });
    }
}

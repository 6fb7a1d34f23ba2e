//! The Python half of the harness, and the families that it is asked for.

use crate::common::files::root;
use crate::common::needs::python;
use lorhai::model::Config;
use serde_json::json;
use std::process::Command;

/// Runs `parity.py`; returns what it prints.
pub fn run(arguments: &[&str]) -> String {
    let script = root().join("tests/families/parity.py");
    let output = Command::new(python("PEER_PYTHON")).arg(script).args(arguments).output().unwrap();
    assert!(output.status.success(), "parity.py {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The families that `LORHAI_FAMILIES` names, which must all be supported, or those of the declared ones that are.
pub fn supported_families() -> Vec<String> {
    let declared: Vec<String> = serde_json::from_str(&run(&["names"])).unwrap();
    let refusal = |family: &str| Config::from_json(&json!({ "model_type": family })).err();
    if let Ok(named) = std::env::var("LORHAI_FAMILIES") {
        let named: Vec<String> = named.split(',').map(|name| name.trim().to_owned()).collect();
        for family in &named {
            assert!(declared.contains(family), "`{family}` is not declared: expected one of {}", declared.join(", "));
            assert!(refusal(family).is_none(), "{family}: {}", refusal(family).unwrap());
        }
        return named;
    }
    let is_supported = |family: &String| {
        let refusal = refusal(family);
        if let Some(error) = &refusal {
            println!("{family}: skipped: {}", error.message);
        }
        refusal.is_none()
    };
    declared.into_iter().filter(is_supported).collect()
}

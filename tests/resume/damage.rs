//! Checkpoints that are damaged are noticed, and the one before is used.

use super::cuts::{case, copy, cut, saving};
use super::logs::{content, difference};
use lorhai::random::Key;
use lorhai::train::checkpoint::Checkpoint;
use std::fs;
use std::path::Path;

const FILES: [&str; 3] = ["lorhai.json", "state.json", "state.safetensors"];

/// Flips one bit, or cuts the file.
fn damage(path: &Path, key: Key, at: u64, cuts: bool) {
    let mut bytes = fs::read(path).unwrap();
    let place = (key.uniform(2 * at) * bytes.len() as f64) as usize;
    match cuts {
        true => bytes.truncate(place),
        false => bytes[place] ^= 1 << ((key.uniform(2 * at + 1) * 8.0) as u32),
    }
    fs::write(path, bytes).unwrap();
}

#[test]
fn every_flipped_bit_and_every_truncation_is_noticed() {
    let (case, scratch) = (case(), tempfile::tempdir().unwrap());
    let (whole, out) = (scratch.path().join("whole"), scratch.path().join("out"));
    case.load().train(&case, &whole, Some(&saving(6))).unwrap();
    let good = whole.join("checkpoint-6");
    assert_eq!(Checkpoint::read(&good).unwrap().step, 6);
    let mut noticed = 0;
    for (number, name) in FILES.into_iter().enumerate() {
        for at in 0..200 {
            let _ = fs::remove_dir_all(&out);
            copy(&good, &out);
            damage(&out.join(name), Key::new(number as u64), at, at % 4 == 0);
            // Of the manifest some bytes say nothing of the state, such as the version of the program.
            let is_noticed = Checkpoint::read(&out).is_err();
            assert!(is_noticed || name == FILES[0], "{name}, {at}");
            noticed += u32::from(is_noticed);
        }
        let _ = fs::remove_dir_all(&out);
        copy(&good, &out);
        fs::remove_file(out.join(name)).unwrap();
        assert!(Checkpoint::read(&out).is_err());
    }
    println!("{noticed} of 600");
    assert!(noticed > 550);
}

#[test]
fn the_checkpoint_before_a_damaged_one_is_used() {
    let (case, scratch) = (case(), tempfile::tempdir().unwrap());
    let whole = scratch.path().join("whole");
    case.load().train(&case, &whole, Some(&saving(3))).unwrap();
    let expected = content(&whole);
    for (number, name) in FILES.into_iter().enumerate() {
        for damaged in 1..=2 {
            let out = scratch.path().join(format!("{number}-{damaged}"));
            cut(&whole, &out, 6);
            for step in [6, 3].into_iter().take(damaged) {
                damage(&out.join(format!("checkpoint-{step}")).join(name), Key::new(9), number as u64, false);
            }
            case.load().train(&case, &out, Some(&saving(3))).unwrap();
            let aside = out.join("old-1");
            if aside.exists() {
                fs::remove_dir_all(aside).unwrap();
            }
            assert_eq!(difference(&content(&out), &expected), None, "{damaged} damaged {name}");
        }
    }
}

//! interim
use super::{Chart, Scale};
use crate::error::Result;
use crate::sweep::SweepResult;
use std::path::PathBuf;
#[derive(Default)]
pub struct ChartOptions {
    pub x: Option<String>,
    pub y: Option<String>,
    pub over: Option<String>,
    pub group: Option<String>,
    pub x_scale: Option<Scale>,
    pub y_scale: Option<Scale>,
    pub title: String,
}
#[derive(Default)]
pub struct About {
    pub title: String,
    pub command: String,
    pub when: String,
    pub seconds: f64,
    pub script: Option<(String, String)>,
    pub settings: Vec<(String, String)>,
    pub environment: Vec<(String, String)>,
    pub warnings: Vec<String>,
}
pub fn chart(_: &SweepResult, _: &ChartOptions) -> Result<Chart> {
    Ok(Chart::default())
}
pub fn write_all(_: &SweepResult, _: &About) -> Result<Vec<PathBuf>> {
    Ok(vec![])
}

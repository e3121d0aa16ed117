//! What holds of an integer model for every input, as records keep it.

use serde::{Deserialize, Serialize};

/// What holds of the integer model for every input; `artifacts/certificate.json` has all of it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CertificateTable {
    /// In one line.
    pub summary: String,
    /// One a layer that integer kernels compute.
    pub layers: Vec<CertificateRow>,
    /// What could not be said.
    pub notes: Vec<String>,
}

/// What holds of one layer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CertificateRow {
    /// The layer's name.
    pub layer: String,
    /// The least sum.
    pub low: i64,
    /// The greatest sum.
    pub high: i64,
    /// The narrowest width that holds every sum.
    pub bits: u32,
    /// At how many sums kernels round otherwise; absent where results are floats.
    pub rounding: Option<String>,
}

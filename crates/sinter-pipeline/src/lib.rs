//! sinter-pipeline

//! sinter-report

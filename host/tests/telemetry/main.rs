//! Traces and metrics over OTLP: what a collector gets is true, whole and nobody's secret, and a collector in trouble keeps no job
//! waiting. The collectors are real sockets on loopback; one of them reads with OpenTelemetry's own protobuf classes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed unwrap is a failed test")]

#[path = "../cli_support/mod.rs"]
mod cli_support;
mod collector;
mod config;
mod interop;
mod metrics;
#[path = "../admin/support.rs"]
#[allow(dead_code, reason = "each test file uses its part of this")]
mod support;
mod traces;
mod trouble;

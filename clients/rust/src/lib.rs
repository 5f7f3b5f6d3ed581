// SPDX-License-Identifier: Apache-2.0
#![doc = include_str!("../README.md")]

mod errors;

pub use errors::{error_details, ErrorDetails, Violation, DOMAIN};
pub use {prost_types, tonic};

/// The API of creditd: its messages, and a client for each service, such as
/// [`EntitlementsClient`](v1::entitlements_client::EntitlementsClient).
///
/// Fields of enum type are `i32`, with a getter of the enum's type: `answer.reason()`. A value that this version does not know
/// reads as `Unspecified` there.
// The protos' comments are plain text for every language: an `<id>` in them is no HTML.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::invalid_html_tags)]
pub mod v1 {
    include!("generated/creditd.v1.rs");
}

/// Money, as prices and costs are given.
#[allow(clippy::all, clippy::pedantic)]
pub mod google_type {
    include!("generated/google.type.rs");
}

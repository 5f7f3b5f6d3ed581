// SPDX-License-Identifier: Apache-2.0
//! What the error of a call tells, taken apart.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

/// The domain of the errors that a creditd server makes itself.
pub const DOMAIN: &str = "creditd";

/// What a failed call tells; [`error_details`] makes it of a [`Status`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ErrorDetails {
    /// The gRPC status code.
    pub code: Code,
    /// What is wrong, in words; for people, not stable.
    pub message: String,
    /// Stable, such as `FEATURE_NOT_FOUND`: decide on it. Empty when the error was not made by a creditd server, as when none
    /// answers.
    pub reason: String,
    /// [`DOMAIN`], or empty like `reason`.
    pub domain: String,
    /// The variables of `message`, such as the id that was not found.
    pub metadata: HashMap<String, String>,
    /// All the faults of a malformed request.
    pub violations: Vec<Violation>,
    /// How long to wait before a retry; `None` when the server does not say.
    pub retry_delay: Option<Duration>,
}

/// One fault of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Violation {
    /// Path of the field, such as `usage["input_tokens"]`.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

/// Takes the error of a call apart. Details that can't be decoded are left out, so that they don't hide the error itself.
#[must_use]
pub fn error_details(status: &Status) -> ErrorDetails {
    let (reason, domain, metadata) = status
        .get_details_error_info()
        .map(|info| (info.reason, info.domain, info.metadata))
        .unwrap_or_default();
    let violations = status.get_details_bad_request().map(|request| request.field_violations);
    ErrorDetails {
        code: status.code(),
        message: status.message().to_owned(),
        reason,
        domain,
        metadata,
        violations: violations
            .unwrap_or_default()
            .into_iter()
            .map(|violation| Violation {
                field: violation.field,
                description: violation.description,
            })
            .collect(),
        retry_delay: status.get_details_retry_info().and_then(|retry| retry.retry_delay),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violation(field: &str, description: &str) -> Violation {
        Violation {
            field: field.into(),
            description: description.into(),
        }
    }

    #[test]
    fn every_detail_is_taken() {
        let mut sent = tonic_types::ErrorDetails::new();
        sent.set_retry_info(Some(Duration::from_millis(1500)));
        sent.add_bad_request_violation("account", "is empty");
        sent.add_bad_request_violation("usage", "is too long");
        sent.set_error_info("OVERLOADED", DOMAIN, [("limit".to_owned(), "9".to_owned())]);
        let status = Status::with_error_details(Code::ResourceExhausted, "no", sent);

        let expected = ErrorDetails {
            code: Code::ResourceExhausted,
            message: "no".into(),
            reason: "OVERLOADED".into(),
            domain: "creditd".into(),
            metadata: HashMap::from([("limit".into(), "9".into())]),
            violations: vec![violation("account", "is empty"), violation("usage", "is too long")],
            retry_delay: Some(Duration::from_millis(1500)),
        };
        assert_eq!(error_details(&status), expected);
    }

    #[test]
    fn details_that_are_absent_or_garbage_leave_code_and_message() {
        let garbage = Status::with_details(Code::Unavailable, "nobody there", b"garbage".as_slice().into());
        for status in [Status::unavailable("nobody there"), garbage] {
            let details = error_details(&status);
            assert_eq!((details.code, details.message.as_str()), (Code::Unavailable, "nobody there"));
            assert_eq!((details.reason.as_str(), details.domain.as_str()), ("", ""));
            assert!(details.metadata.is_empty() && details.violations.is_empty());
            assert_eq!(details.retry_delay, None);
        }
    }
}

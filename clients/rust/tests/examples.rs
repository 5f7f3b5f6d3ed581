// SPDX-License-Identifier: Apache-2.0
//! The examples, against the server at CREDITD_ADDRESS; others may use its demo account at the same time.

use std::collections::BTreeSet;
use std::process::Command;

use creditd_client::tonic::transport::{Channel, Endpoint};
use creditd_client::tonic::Code;
use creditd_client::v1::accounts_client::AccountsClient;
use creditd_client::v1::entitlements_client::EntitlementsClient;
use creditd_client::v1::{
    Account, CheckRequest, ConsumeResponse, CreateGrantRequest, GetBalanceRequest, Grant, ListGrantsRequest, PutAccountRequest,
    Reason,
};
use creditd_client::{error_details, DOMAIN};
use uuid::Uuid;

#[allow(dead_code)]
#[path = "../examples/tour.rs"]
mod tour;

/// 1,000 input tokens at 0.25 and 500 output tokens at 1 credit per 1,000.
const COST_MICROS: i64 = 750_000;

fn connect() -> Channel {
    let address = std::env::var("CREDITD_ADDRESS").expect("CREDITD_ADDRESS must name a running server, as host:port");
    Endpoint::try_from(format!("http://{address}")).unwrap().connect_lazy()
}

fn entitlements() -> tour::Client {
    EntitlementsClient::new(connect())
}

#[tokio::test]
async fn check_tells_cost_and_a_balance_beyond_32_bits() {
    let answer = tour::check(&mut entitlements()).await.unwrap();
    assert!(answer.allowed);
    assert_eq!(answer.reason(), Reason::Covered);
    assert_eq!(answer.cost_micros, COST_MICROS);
    let available = answer.balance.unwrap().available_micros;
    assert!(available > 1 << 32, "{available}");
}

#[tokio::test]
async fn consume_burns_once_for_a_key() {
    let mut client = entitlements();
    let key = format!("test-{}", Uuid::new_v4());
    let first = tour::consume(&mut client, &key).await.unwrap();
    assert!(first.allowed && !first.replayed, "{first:?}");
    assert_eq!(first.charged_micros, COST_MICROS);

    let second = tour::consume(&mut client, &key).await.unwrap();
    let other = tour::consume(&mut client, &format!("{key}-other")).await.unwrap();
    assert_ne!(other.entry_id, first.entry_id);
    assert_eq!(second, ConsumeResponse { replayed: true, ..first });
}

#[tokio::test]
async fn denial_is_an_answer_with_an_exact_shortfall() {
    let denial = tour::consume_too_much(&mut entitlements()).await.unwrap();
    assert!(!denial.allowed);
    assert_eq!(denial.reason(), Reason::InsufficientCredits);
    assert_eq!(denial.entry_id, "");
    let available = denial.balance.unwrap().available_micros;
    assert_eq!(denial.shortfall_micros + available, 8_999_999_999_999_000);
}

#[tokio::test]
async fn malformed_request_tells_every_violation() {
    let error = tour::check_malformed(&mut entitlements()).await.unwrap_err();
    let details = error_details(&error);
    assert_eq!(details.code, Code::InvalidArgument);
    assert_eq!(details.reason, "INVALID_ARGUMENT");
    assert_eq!(details.domain, DOMAIN);
    let fields: BTreeSet<_> = details.violations.iter().map(|each| each.field.as_str()).collect();
    assert_eq!(fields, BTreeSet::from(["account", "usage"]));
    assert!(
        details.violations.iter().all(|each| !each.description.is_empty()),
        "{details:?}"
    );
}

#[tokio::test]
async fn unknown_feature_is_named_in_the_metadata() {
    let request = CheckRequest {
        account: "demo".into(),
        feature: "no-such".into(),
        ..Default::default()
    };
    let details = error_details(&entitlements().check(request).await.unwrap_err());
    assert_eq!(details.code, Code::NotFound);
    assert_eq!(details.reason, "FEATURE_NOT_FOUND");
    assert_eq!(details.metadata["key"], "no-such");
}

#[tokio::test]
async fn amounts_near_the_largest_are_exact() {
    const AMOUNT: i64 = 8_999_999_999_999_999;
    let id = format!("client-rust-{}", Uuid::new_v4());
    let mut accounts = AccountsClient::new(connect());
    let account = Account {
        id: id.clone(),
        ..Default::default()
    };
    accounts
        .put_account(PutAccountRequest { account: Some(account) })
        .await
        .unwrap();

    let grant = Grant {
        id: "big".into(),
        account: id.clone(),
        credit: "credits".into(),
        amount_micros: AMOUNT,
        ..Default::default()
    };
    let request = CreateGrantRequest {
        grant: Some(grant),
        ..Default::default()
    };
    let granted = accounts.create_grant(request).await.unwrap().into_inner();
    assert_eq!(granted.amount_micros, AMOUNT);

    let request = ListGrantsRequest {
        account: id.clone(),
        ..Default::default()
    };
    let listed = accounts.list_grants(request).await.unwrap().into_inner();
    assert_eq!(listed.grants[0].remaining_micros, AMOUNT);

    let request = GetBalanceRequest {
        account: id,
        ..Default::default()
    };
    let answer = entitlements().get_balance(request).await.unwrap().into_inner();
    assert_eq!(answer.balances[0].available_micros, AMOUNT);
}

#[test]
fn first_check_runs_as_a_program() {
    assert_eq!(run("first_check"), "true Covered 750000\n");
}

#[test]
fn tour_runs_as_a_program() {
    let printed = run("tour");
    for expected in [
        "consume 1: burned 750000, replayed=false",
        "consume 2: burned 750000, replayed=true",
        "denied: allowed=false, InsufficientCredits, 89",
        "error: InvalidArgument, INVALID_ARGUMENT of creditd",
        "  account: ",
    ] {
        assert!(printed.contains(expected), "{expected} is not in:\n{printed}");
    }
}

/// What an example prints, as `cargo test` has built it; it must end well.
fn run(example: &str) -> String {
    let this = std::env::current_exe().unwrap();
    let folder = this.ancestors().nth(2).unwrap().join("examples");
    let program = folder.join(format!("{example}{}", std::env::consts::EXE_SUFFIX));
    let output = Command::new(&program)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

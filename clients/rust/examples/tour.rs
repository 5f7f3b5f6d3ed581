// SPDX-License-Identifier: Apache-2.0
//! What a caller of creditd meets: a check, a burn and its retry, a denial, and an error taken apart. Run it against
//! `creditd dev --demo`: `cargo run --example tour`.

use std::collections::HashMap;
use std::time::Duration;

use creditd_client::error_details;
use creditd_client::tonic::transport::{Channel, Endpoint};
use creditd_client::tonic::Status;
use creditd_client::v1::entitlements_client::EntitlementsClient;
use creditd_client::v1::{CheckRequest, CheckResponse, ConsumeRequest, ConsumeResponse};
use uuid::Uuid;

/// A client on one connection; clones share it.
pub type Client = EntitlementsClient<Channel>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::var("CREDITD_ADDRESS").unwrap_or("127.0.0.1:50051".into());
    // The timeout is that of each call.
    let endpoint = Endpoint::try_from(format!("http://{address}"))?.timeout(Duration::from_secs(10));
    let mut client = EntitlementsClient::new(endpoint.connect_lazy());

    let answer = check(&mut client).await?;
    let available = answer.balance.as_ref().map_or(0, |balance| balance.available_micros);
    println!(
        "check: {:?}, costs {} of {available} micro-credits",
        answer.reason(),
        answer.cost_micros
    );

    // The key belongs to one operation of yours, such as one request of a user, and stays the same when you retry.
    let key = format!("tour-{}", Uuid::new_v4());
    for attempt in [1, 2] {
        let burn = consume(&mut client, &key).await?;
        println!(
            "consume {attempt}: burned {}, replayed={}",
            burn.charged_micros, burn.replayed
        );
    }

    let denial = consume_too_much(&mut client).await?;
    println!(
        "denied: allowed={}, {:?}, {} missing",
        denial.allowed,
        denial.reason(),
        denial.shortfall_micros
    );

    let Err(error) = check_malformed(&mut client).await else {
        return Err("a malformed request was not refused".into());
    };
    let details = error_details(&error);
    println!("error: {:?}, {} of {}", details.code, details.reason, details.domain);
    for violation in details.violations {
        println!("  {}: {}", violation.field, violation.description);
    }
    Ok(())
}

/// Asks; nothing is burned.
pub async fn check(client: &mut Client) -> Result<CheckResponse, Status> {
    let request = CheckRequest {
        account: "demo".into(),
        feature: "chat".into(),
        attributes: HashMap::from([("model".into(), "gpt-4o".into())]),
        usage: HashMap::from([("input_tokens".into(), 1000), ("output_tokens".into(), 500)]),
        ..Default::default()
    };
    Ok(client.check(request).await?.into_inner())
}

/// Burns, once for each key however often it is called.
pub async fn consume(client: &mut Client, key: &str) -> Result<ConsumeResponse, Status> {
    let request = ConsumeRequest {
        account: "demo".into(),
        feature: "chat".into(),
        attributes: HashMap::from([("model".into(), "gpt-4o".into())]),
        usage: HashMap::from([("input_tokens".into(), 1000), ("output_tokens".into(), 500)]),
        idempotency_key: key.into(),
        ..Default::default()
    };
    Ok(client.consume(request).await?.into_inner())
}

/// Asks for 9e15 micro-credits, about the largest amount there is. The denial is an answer, no error.
pub async fn consume_too_much(client: &mut Client) -> Result<ConsumeResponse, Status> {
    let request = ConsumeRequest {
        account: "demo".into(),
        feature: "chat".into(),
        attributes: HashMap::from([("model".into(), "gpt-4o".into())]),
        usage: HashMap::from([("output_tokens".into(), 8_999_999_999_999)]),
        ..Default::default()
    };
    Ok(client.consume(request).await?.into_inner())
}

/// Makes two faults: no account, and both ways to say how much.
pub async fn check_malformed(client: &mut Client) -> Result<CheckResponse, Status> {
    let request = CheckRequest {
        feature: "chat".into(),
        quantity: Some(1),
        usage: HashMap::from([("input_tokens".into(), 1000)]),
        ..Default::default()
    };
    Ok(client.check(request).await?.into_inner())
}

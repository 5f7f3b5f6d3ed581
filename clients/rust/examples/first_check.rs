// SPDX-License-Identifier: Apache-2.0
//! Asks whether the account demo may use the feature chat: `cargo run --example first_check`.

use std::collections::HashMap;

use creditd_client::v1::{entitlements_client::EntitlementsClient, CheckRequest};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::var("CREDITD_ADDRESS").unwrap_or("127.0.0.1:50051".into());
    let mut client = EntitlementsClient::connect(format!("http://{address}")).await?;
    let request = CheckRequest {
        account: "demo".into(),
        feature: "chat".into(),
        attributes: HashMap::from([("model".into(), "gpt-4o".into())]),
        usage: HashMap::from([("input_tokens".into(), 1000), ("output_tokens".into(), 500)]),
        ..Default::default()
    };
    let answer = client.check(request).await?.into_inner();
    println!("{} {:?} {}", answer.allowed, answer.reason(), answer.cost_micros);
    Ok(())
}

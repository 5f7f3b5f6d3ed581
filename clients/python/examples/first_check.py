import os

import grpc
from creditd_client.v1.entitlements_pb2 import CheckRequest, Reason
from creditd_client.v1.entitlements_pb2_grpc import EntitlementsStub

with grpc.insecure_channel(os.environ.get("CREDITD_ADDRESS", "127.0.0.1:50051")) as channel:
    answer = EntitlementsStub(channel).Check(
        CheckRequest(
            account="demo",
            feature="chat",
            attributes={"model": "gpt-4o"},
            usage={"input_tokens": 1000, "output_tokens": 500},
        )
    )
print(answer.allowed, Reason.Name(answer.reason), answer.cost_micros)

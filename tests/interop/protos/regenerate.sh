#!/bin/sh
# Regenerates ../gen from interop.proto; run it anywhere with the project's virtual environment in place.
set -eu
cd "$(dirname "$0")/../../.."
exec .venv/bin/python -m grpc_tools.protoc -I tests/interop/gen=tests/interop/protos \
  --python_out=. --pyi_out=. --grpc_python_out=. tests/interop/gen/interop.proto

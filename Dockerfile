# syntax=docker/dockerfile:1
# The service alone: no compiler, no package manager of Python's, no embedded servers.
# Docs: docs/deploy.md. `make image` builds it; tests/package/test_image.py runs these steps in clean roots.

# A release of Python on a release of Debian; with @sha256:... behind it a build can be pinned to the byte.
ARG BASE=python:3.13-slim-trixie

FROM ${BASE} AS build
WORKDIR /build
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# The runtime dependencies, as locked: uv takes versions and hashes from the lock file as constraints. uv itself is
# checked by pip, for which its lines are cut out of the lock file.
COPY requirements.lock pyproject.toml ./
RUN sed -n '/^uv==/,/[^\\]$/p' requirements.lock > uv.lock \
 && pip install --no-cache-dir --disable-pip-version-check --root-user-action ignore --require-hashes --requirement uv.lock \
 && uv venv --no-project /opt/creditd \
 && uv pip install --python /opt/creditd/bin/python --require-hashes \
      --constraints requirements.lock --requirements pyproject.toml

COPY README.md LICENSE ./
COPY src src
RUN uv build --wheel --out-dir dist --build-constraints requirements.lock --require-hashes \
 && uv pip install --python /opt/creditd/bin/python --no-deps dist/*.whl \
 && rm -f /opt/creditd/.lock

FROM ${BASE}
# A number, so that Kubernetes can see that it is not root. What could install packages goes.
RUN groupadd --system --gid 10001 creditd \
 && useradd --system --uid 10001 --gid creditd --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin creditd \
 && pip uninstall --yes --root-user-action ignore pip \
 && rm -rf /usr/local/lib/python3.*/ensurepip
COPY --from=build /opt/creditd /opt/creditd
ENV PATH="/opt/creditd/bin:${PATH}" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 CREDITD_LISTEN=0.0.0.0:50051
USER 10001:10001
EXPOSE 50051
# Calls in flight have CREDITD_DRAIN_GRACE_S (20 s) at a stop: stop the container with a longer timeout than that.
STOPSIGNAL SIGTERM
# Asks at CREDITD_ADDRESS, 127.0.0.1:50051 if that is not set.
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["creditd", "health"]
ENTRYPOINT ["creditd"]
CMD ["serve"]

# Last, so that a commit without a change of the code builds nothing but labels. `make image` tells them.
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="creditd" \
      org.opencontainers.image.description="gRPC entitlement and credit-burndown service" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.source="https://github.com/creditd/creditd" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"

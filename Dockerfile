# syntax=docker/dockerfile:1
# The service alone: no compiler, no package manager of ours, no embedded servers.
ARG PYTHON=3.12

FROM python:${PYTHON}-slim AS build
WORKDIR /build
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_NO_CACHE=1 UV_PYTHON_DOWNLOADS=never
SHELL ["/bin/bash", "-o", "pipefail", "-c"]

# The runtime dependencies, as locked: uv takes versions and hashes from the lock file as constraints.
COPY requirements.lock pyproject.toml ./
RUN pip install --no-cache-dir --disable-pip-version-check "$(grep -o '^uv==[^ ]*' requirements.lock)" \
 && uv venv --no-project /opt/creditd \
 && uv pip install --python /opt/creditd/bin/python --constraints requirements.lock --requirements pyproject.toml

COPY README.md LICENSE ./
COPY src src
RUN uv build --wheel --out-dir dist \
 && uv pip install --python /opt/creditd/bin/python --no-deps dist/*.whl

FROM python:${PYTHON}-slim
LABEL org.opencontainers.image.title="creditd" \
      org.opencontainers.image.description="gRPC entitlement and credit-burndown service" \
      org.opencontainers.image.licenses="Apache-2.0"
# A number, so that Kubernetes can see that it is not root.
RUN groupadd --system --gid 10001 creditd \
 && useradd --system --uid 10001 --gid creditd --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin creditd
COPY --from=build /opt/creditd /opt/creditd
ENV PATH="/opt/creditd/bin:${PATH}" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 CREDITD_LISTEN=0.0.0.0:50051
USER 10001:10001
EXPOSE 50051
# Calls in flight have CREDITD_DRAIN_GRACE_S (20 s) at a stop: stop the container with a longer timeout than that.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["creditd", "health"]
ENTRYPOINT ["creditd"]
CMD ["serve"]

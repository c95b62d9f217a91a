# One image for every app: `docker run <image> customer serve`; and one, `--target agent`, for who makes backups.
# The base images are arguments, so that a mirror, a digest or a base of one's own can be given.
ARG NODE_IMAGE=docker.io/library/node:22-bookworm-slim
ARG PYTHON_IMAGE=docker.io/library/python:3.11-slim-bookworm
ARG BUILD_IMAGE=docker.io/library/python:3.11-bookworm

FROM ${NODE_IMAGE} AS web
WORKDIR /app/web
COPY web/package.json web/package-lock.json ./
RUN npm ci --no-audit --no-fund
COPY web/ ./
RUN npm run build

FROM ${BUILD_IMAGE} AS python
ARG UV_VERSION=0.13.9
ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never PATH=/opt/uv/bin:$PATH
RUN python3.11 -m venv /opt/uv && pip install --no-cache-dir uv==${UV_VERSION}
WORKDIR /app
COPY pyproject.toml uv.lock Makefile ./
COPY libs libs
COPY services services
COPY gateway gateway
COPY protos protos
COPY deploy/local/pyproject.toml deploy/local/pyproject.toml
COPY deploy/keycloak deploy/keycloak
# The code generated from the protos needs the compiler, which the image does not keep.
RUN uv sync --frozen --python python3.11 && make proto && rm -rf .venv .local
# The launcher of local runs brings its own PostgreSQL and NATS; no app needs it.
RUN set -- && for project in libs/* services/* gateway; do \
      set -- "$@" --package "$(sed -n 's/^name = "\(.*\)"/\1/p' "$project/pyproject.toml" | head -n 1)"; \
    done && uv sync --frozen --no-dev --python python3.11 "$@" && rm -rf Makefile deploy/local

# The operator's agent restores into servers of its own when it drills, so it has the launcher too.
FROM python AS launcher
COPY deploy/local deploy/local
RUN uv sync --frozen --no-dev --all-packages --python python3.11

FROM ${PYTHON_IMAGE} AS agent
RUN rm -rf /usr/local/lib/python3.11/site-packages/pip* /usr/local/bin/pip*
COPY --from=launcher /app /app
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# A volume mounted here starts as this user's own.
RUN install -d -o 10001 -g 10001 /var/lib/crm/files /var/lib/crm/backups
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["python", "-m"]
CMD ["local_platform.agent"]

FROM ${PYTHON_IMAGE} AS crm
# No package manager of Python is needed at run time, so none is there to be misused.
RUN rm -rf /usr/local/lib/python3.11/site-packages/pip* /usr/local/bin/pip*
# What WeasyPrint draws with, and the CJK fonts that printed documents embed.
RUN apt-get update && apt-get install -y --no-install-recommends libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0 fonts-noto-cjk \
    && rm -rf /var/lib/apt/lists/*
COPY --from=python /app /app
COPY --from=web /app/web/dist /app/web/dist
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 WEB_ROOT=/app/web/dist
# A volume mounted here starts as this user's own.
RUN install -d -o 10001 -g 10001 /var/lib/crm/files /realm
WORKDIR /tmp
USER 10001:10001
ENTRYPOINT ["python", "-m"]
CMD ["gateway", "serve"]

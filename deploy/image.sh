#!/bin/sh
# Builds guanxi/crm:<version>, and with TARGET=agent guanxi/crm-agent:<version>, with Docker, or with Podman where no Docker answers.
#
# BASE=debootstrap, for root on Debian, makes the base images out of Debian packages and the machine's own Node:
# the way to try the build where no image registry can be reached. Such an image is for trying, not for running.
set -eu
cd "$(dirname "$0")/.."
version=$(sed -n 's/^appVersion: //p' deploy/helm/crm/Chart.yaml)

if [ -z "${BUILDER:-}" ]; then
  if docker info > /dev/null 2>&1; then BUILDER=docker; else BUILDER=podman; fi
fi

bases() {
  podman image exists localhost/guanxi/python-base && podman image exists localhost/guanxi/build-base && return
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  debootstrap --variant=minbase --include=ca-certificates,python3 bookworm "$work/root" > "$work/log" 2>&1 ||
    { tail "$work/log" >&2; exit 1; }
  rm -rf "$work/root/var/cache/apt" "$work/root/var/lib/apt/lists" "$work/root/usr/share/doc" "$work/root/usr/share/man"
  tar --create --directory "$work/root" . | podman import - localhost/guanxi/python-base > /dev/null
  # Authorities and registries of this machine are for the build alone.
  mkdir -p "$work/context/etc" "$work/context/usr/etc"
  for file in /etc/pip.conf /etc/uv/uv.toml /usr/etc/npmrc; do
    if [ -f "$file" ]; then install -D "$file" "$work/context$file"; fi
  done
  install -D /etc/ssl/certs/ca-certificates.crt "$work/context/etc/ssl/certs/ca-certificates.crt"
  install -D "$(command -v node)" "$work/context/usr/bin/node"
  mkdir -p "$work/context/usr/lib/node_modules"
  cp -r "$(npm root --global)/npm" "$work/context/usr/lib/node_modules/npm"
  cat > "$work/Dockerfile" << 'END'
FROM localhost/guanxi/python-base
RUN apt-get update && apt-get install --yes --no-install-recommends python3-venv make
COPY . /
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/bin/npm
ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
END
  podman build --isolation=chroot --network=host --tag localhost/guanxi/build-base --file "$work/Dockerfile" "$work/context"
}

case "${TARGET:=crm}" in crm) name=crm ;; *) name="crm-$TARGET" ;; esac
set -- --target "$TARGET" --tag "guanxi/$name:$version" .
if [ "${BASE:-}" = debootstrap ]; then
  BUILDER=podman
  bases
  set -- --build-arg NODE_IMAGE=localhost/guanxi/build-base --build-arg BUILD_IMAGE=localhost/guanxi/build-base \
    --build-arg PYTHON_IMAGE=localhost/guanxi/python-base "$@"
fi
if [ "$BUILDER" = podman ]; then set -- --isolation=chroot --network=host --layers=false "$@"; fi
exec "$BUILDER" build "$@"

"""The Pod Security Standard `restricted`, as far as a manifest can break it, and what we ask beyond it."""

from collections.abc import Iterator
from typing import Any

ALLOWED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def pod_of(manifest: dict[str, Any]) -> dict[str, Any] | None:
    """The pod template's spec, if the manifest makes pods."""
    if manifest["kind"] == "Pod":
        return manifest["spec"]
    if manifest["kind"] == "CronJob":
        return manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return manifest["spec"].get("template", {}).get("spec") if "spec" in manifest else None


def containers_of(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod.get("ephemeralContainers", []), *pod["containers"]]


def violations(pod: dict[str, Any]) -> Iterator[str]:
    """Every rule that the pod breaks, in words."""
    for host in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(host):
            yield f"{host} is set"
    for volume in pod.get("volumes", []):
        for kind in volume.keys() - {"name"} - ALLOWED_VOLUMES:
            yield f"volume {volume['name']} is of kind {kind}"
    shared = pod.get("securityContext", {})
    for container in containers_of(pod):
        own = {**shared, **container.get("securityContext", {})}
        name = container["name"]
        if own.get("runAsNonRoot") is not True or own.get("runAsUser") == 0:
            yield f"{name} may run as root"
        if own.get("privileged"):
            yield f"{name} is privileged"
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{name} may gain privileges"
        capabilities = own.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
            yield f"{name} keeps capabilities"
        if own.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{name} has no seccomp profile"
        if own.get("procMount", "Default") != "Default" or own.get("sysctls"):
            yield f"{name} changes the kernel's settings"
        for port in container.get("ports", []):
            if port.get("hostPort"):
                yield f"{name} takes a port of the node"
        # Beyond the standard:
        if own.get("readOnlyRootFilesystem") is not True:
            yield f"{name} can write to its image"
        if not {"cpu", "memory"} <= container.get("resources", {}).get("limits", {}).keys():
            yield f"{name} has no limits"
        if container["image"].endswith(":latest") or not {":", "@"} & set(container["image"].rsplit("/")[-1]):
            yield f"{name} has an image without a version"
    if pod.get("automountServiceAccountToken") is not False:
        yield "the pod holds a token of the cluster"

"""Where things lie: the repository and its `.local` directory."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
STATE = ROOT / ".local"
PEOPLE = ROOT / "deploy" / "local" / "people.yaml"
ROLES = ROOT / "services" / "workspace" / "workspace" / "roles.yaml"

# Sourced by the other scripts: makes .venv once and puts it on PATH. Needs Python 3.11 to 3.13.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export OMNI_CACHE="${OMNI_CACHE:-$HOME/.cache/omni-stages}"
stamp="$root/.venv/.installed-$(cat "$root/pyproject.toml" "$root/constraints.txt" | sha256sum | cut -c1-12)"
if [ ! -f "$stamp" ]; then
  echo "setting up $root/.venv (once)"
  # an activated .venv has a uv too, which goes away with it
  PATH=$(printf %s "$PATH" | tr : '\n' | grep -vxF "$root/.venv/bin" | paste -sd :)
  # some pip must bring uv; a venv keeps the system's Python untouched
  if ! command -v uv >/dev/null; then
    tools="$OMNI_CACHE/tools"
    [ -x "$tools/bin/uv" ] || python3 -m pip install --quiet --target "$tools" uv || {
      echo "error: could not install uv with 'python3 -m pip'; install uv and run this again" >&2
      exit 1
    }
    PATH="$tools/bin:$PATH"
  fi
  python=$(for p in python3.11 python3.12 python3.13 python3; do command -v "$p" && break; done)
  uv venv --quiet --clear --python "$python" "$root/.venv" || exit 1
  # compiled once here, instead of at the first start of every command
  # gradio asks for an older Pillow, which does not read every TIFF; its page works with this one
  VIRTUAL_ENV="$root/.venv" uv pip install --quiet --compile-bytecode -c "$root/constraints.txt" --overrides <(echo "pillow>=13") -e "$root[dev,speech]" || exit 1
  touch "$stamp"
fi
export PATH="$root/.venv/bin:$PATH"  # holds uv too, with which pretrained wheels are fetched
export TOKENIZERS_PARALLELISM=false HF_HUB_DISABLE_TELEMETRY=1

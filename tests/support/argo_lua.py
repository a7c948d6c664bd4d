"""Runs Argo CD's Lua scripts as Argo CD does: the libraries that its `util/lua` opens, and nothing else of Lua.

Argo CD runs a script of argocd-cm in gopher-lua (Lua 5.1) with the base library, `table`, and an `os` that has `time`
and `date` only. There is no `string` and no `math`, and text has no methods.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from lupa import lua51

ROOT = Path(__file__).resolve().parents[2]
TREE = ROOT / "charts/broadsheet/files/argocd/resource_customizations"
KINDS = ("Cluster", "Topic", "ConsumerGroup")

BASE = {
    "assert", "collectgarbage", "dofile", "error", "getfenv", "getmetatable", "load", "loadfile", "loadstring", "next",
    "pcall", "print", "rawequal", "rawget", "rawset", "select", "setfenv", "setmetatable", "tonumber", "tostring",
    "type", "unpack", "xpcall", "module", "require", "newproxy", "ipairs", "pairs", "_G", "_VERSION", "table", "os",
}  # fmt: skip
"""What gopher-lua's base library has, and the two that Argo CD opens."""
CLOSE = """
local allowed = ...
getmetatable("").__index = nil
local time, date = os.time, os.date
os = {time = time, date = date}
local loaded = {os = os, table = table}
require = function(name)
  if loaded[name] == nil then error("module " .. name .. " not found") end
  return loaded[name]
end
for name in pairs(_G) do
  if not allowed[name] then _G[name] = nil end
end
"""


def run(script: str, obj: Any) -> Any:
    """What a script returns for an object, as plain data; LuaError if it raises one."""
    lua = lua51.LuaRuntime(register_eval=False, unpack_returned_tuples=True)
    lua.execute(CLOSE, _to_lua(lua, dict.fromkeys(BASE, True)))
    lua.globals()["obj"] = _to_lua(lua, obj)
    return _to_python(lua.execute(script))


def _to_lua(lua: Any, value: Any) -> Any:
    """As Argo CD's decodeValue: null is nil, so that a key with null is not there."""
    if isinstance(value, dict):
        return lua.table_from({key: _to_lua(lua, entry) for key, entry in value.items() if entry is not None})
    if isinstance(value, list):
        return lua.table_from([_to_lua(lua, entry) for entry in value if entry is not None])
    return value


def _to_python(value: Any) -> Any:
    """As gopher-json: a table with 1 in it is a list, an empty one is a list, too."""
    if lua51.lua_type(value) != "table":
        return value
    keys = list(value.keys())
    if all(isinstance(key, int) for key in keys):
        return [_to_python(value[index + 1]) for index in range(len(keys))]
    return {key: _to_python(entry) for key, entry in value.items()}


def cleaned(new: Any, old: Any) -> Any:
    """As Argo CD's cleanReturnedObj: an empty map that Lua took for a list is a map again."""
    if isinstance(new, list) and not new and isinstance(old, dict):
        return {}
    if isinstance(new, dict) and isinstance(old, dict):
        return {key: cleaned(entry, old.get(key)) for key, entry in new.items()}
    if isinstance(new, list) and isinstance(old, list):
        return [cleaned(entry, old[at] if at < len(old) else None) for at, entry in enumerate(new)]
    return new


def folder(kind: str) -> Path:
    """The folder of a kind, as it is named in Argo CD's own tree."""
    return TREE / "broadsheet.io" / kind


def script(kind: str, name: str = "health.lua") -> str:
    """The text of a script of a kind."""
    return (folder(kind) / name).read_text()


def load(path: Path) -> Any:
    """A YAML file as JSON would have it."""
    return json.loads(json.dumps(yaml.safe_load(path.read_text()), default=str))

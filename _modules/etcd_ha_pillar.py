"""
The pillar judged before any master has it: for the CI of a pillar repository.
"""

import os

# Salt puts _utils on the path only while it loads this file: import here, not in functions.
import etcd_ha_faces
import etcd_ha_pillar_check
import salt.loader
import salt.template
import salt.utils.dictupdate
import salt.utils.files
import salt.utils.yaml
from salt.exceptions import CommandExecutionError

__virtualname__ = "etcd_ha"

DEFAULTS = "etcd_ha/defaults.yaml"


def __virtual__():
    return __virtualname__


def check_pillar(file, also=()):
    """
    Check a file of the pillar against every rule of the formula, without a master.

    It is rendered by Salt's own renderers: a file whose name ends with ``.yaml``, ``.yml`` or
    ``.json`` as YAML, any other one by its ``#!`` line or the option ``renderer`` (Jinja, then
    YAML). Jinja finds other files beside it and in ``pillar_roots``, has the grains of this
    machine, and no pillar. Nothing is asked of sdb, and nothing is decrypted: of a secret only its
    place is checked.

    file
        The path (text) of the file, with the key ``etcd_ha`` at its top.

    also : ()
        Paths (list of text) of other files that the top file gives to the same hosts, such as one
        with secrets. They are merged over it as Salt merges a pillar.

    Returns a dict: ``result`` (bool), ``clusters`` (list of text: those without a fault),
    ``faults`` and ``notes`` (lists of text, each with its pillar key). With a fault the exit code
    is 1.

    Raises CommandExecutionError when a file cannot be read or rendered, and when the formula's
    files cannot be had.

    CLI Example:

    .. code-block:: bash

        salt-call --local etcd_ha.check_pillar pillar/etcd_ha.sls
        salt-call --local etcd_ha.check_pillar pillar/etcd_ha.sls also='[pillar/red_secrets.sls]'
    """
    etcd_ha_faces.sound(locals())
    merged = {}
    for one in (file, *also):
        merged = salt.utils.dictupdate.merge(
            merged,
            _rendered(one),
            strategy=__opts__.get("pillar_source_merging_strategy", "smart"),
            renderer=__opts__.get("renderer", "yaml"),
            merge_lists=__opts__.get("pillar_merge_lists", False),
        )
    found = etcd_ha_pillar_check.check(merged.get("etcd_ha"), _defaults())
    if found.faults:
        __context__["retcode"] = 1
    return {
        "result": not found.faults,
        "clusters": list(found.clusters),
        "faults": list(found.faults),
        "notes": list(found.notes),
    }


def _rendered(file):
    """What a file of the pillar says, rendered as Salt renders it, but for decryption."""
    path = os.path.abspath(file)
    if not os.path.isfile(path):
        raise CommandExecutionError(f"{file} is not a file; give the path of a file of the pillar")
    opts = _opts_of_a_pillar(os.path.dirname(path))
    default = __opts__.get("renderer", "jinja|yaml")
    if path.endswith((".yaml", ".yml", ".json")):
        default = "yaml"
    try:
        found = salt.template.compile_template(
            path,
            salt.loader.render(opts, __salt__),
            default,
            [*(__opts__.get("renderer_blacklist") or ()), "gpg"],
            __opts__.get("renderer_whitelist"),
            sls=os.path.splitext(os.path.basename(path))[0],
            _pillar_rend=True,
        )
    except Exception as err:  # a renderer raises whatever a template raises
        # The lines behind the first are the template's own, and may hold a password.
        why = str(err).partition("\n")[0]
        raise CommandExecutionError(f"{file} cannot be rendered: {why}") from err
    if not isinstance(found, dict):
        raise CommandExecutionError(
            f"{file} holds no mapping once it is rendered; write etcd_ha: with clusters: below it"
        )
    if "include" in found:
        raise CommandExecutionError(
            f"{file} includes other files, which are not followed here; name them with also="
        )
    return found


def _opts_of_a_pillar(folder):
    """Options under which templates find what lies beside the file, and in the pillar's roots."""
    roots = [folder, *(__opts__.get("pillar_roots") or {}).get("base", ())]
    places = {"base": list(dict.fromkeys(roots))}
    return {**__opts__, "file_client": "local", "file_roots": places, "pillar_roots": places}


def _defaults():
    """The formula's defaults: of the checkout that this file lies in, else from ``file_roots``."""
    path = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), DEFAULTS)
    if not os.path.isfile(path):
        path = __salt__["cp.cache_file"](f"salt://{DEFAULTS}")
    if not path:
        raise CommandExecutionError(
            f"salt://{DEFAULTS} is not there: add the formula to file_roots, or name its _modules "
            "and _utils in module_dirs and utils_dirs"
        )
    with salt.utils.files.fopen(path, encoding="utf-8") as file:
        return salt.utils.yaml.safe_load(file)

{#- The signing policies of the CA minion, generated from the clusters in etcd_ha.sls.
    Assign it to the CA minion beside etcd_ha; see the README. -#}
{%- import_yaml "etcd_ha.sls" as source %}
{%- set defaults = salt["cp.get_file_str"]("salt://etcd_ha/defaults.yaml") | load_yaml %}
x509_signing_policies: {{ salt["etcd_ha.signing_policies"](source["etcd_ha"], defaults, opts["id"]) | json }}

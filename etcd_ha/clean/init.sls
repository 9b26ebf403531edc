{#- For a host that has no part in any cluster any more. Nothing includes it: it is applied by name. -#}
nothing of etcd_ha but data is left here:
  etcd_ha.cleaned: []

no rule of etcd_ha is left in any firewall:
  etcd_ha_firewall.cleared:
    - require:
      - etcd_ha: nothing of etcd_ha but data is left here

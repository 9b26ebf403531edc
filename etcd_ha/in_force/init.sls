{#- First of all: what this host is rendered from is recorded, before anything of it is done. A state run
    outside the orchestrate tells here what it leaves alone. -#}
{%- set host = salt["etcd_ha.host"]() %}
what is in force on this host is recorded:
  etcd_ha.in_force:
    - host: {{ host | json }}
    # Without it the next highstate would put the former state back.
    - failhard: true

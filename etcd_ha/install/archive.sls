{#- The release lies beside others until etcd_ha.member switches to it. -#}
{%- set host = salt["etcd_ha.host"]() %}
{%- set member = host.member or host.coming.member %}
{%- set install = member.install %}
etcd {{ member.version }} is unpacked beside other releases:
  etcd_ha.installed:
    - version: {{ member.version | json }}
    - url: {{ install.url | json }}
    - sums_url: {{ install.sums_url | json }}
    - checksum: {{ install.checksum | json }}
    - archive: {{ install.archive }}
    - folder: {{ install.folder }}
    - dir: {{ install.dir }}
    - programs: {{ install.programs | json }}

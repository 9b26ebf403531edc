{%- set host = salt["etcd_ha.host"]() %}
{%- if host.entries %}
/etc/hosts names every host of the cluster:
  file.blockreplace:
    - name: /etc/hosts
    - marker_start: "# etcd_ha: hosts of the etcd cluster, kept by Salt"
    - marker_end: "# etcd_ha: end"
    - append_if_not_found: true
    - content: |
{%- for entry in host.entries %}
        {{ entry.address }} {{ entry.names | join(" ") }}
{%- endfor %}
{%- endif %}
{%- if host.hostname %}

/etc/hostname says {{ host.hostname }}:
  file.managed:
    - name: /etc/hostname
    - contents: {{ host.hostname | json }}
    - mode: "0644"

the running system is called {{ host.hostname }}:
  cmd.run:
    - name: hostname -F /etc/hostname
    - onchanges:
      - file: /etc/hostname says {{ host.hostname }}
{%- endif %}

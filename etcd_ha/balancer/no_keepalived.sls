{#- The virtual address that the last converge left here is not wanted any more. -#}
{%- set host, os = salt["etcd_ha.host"](), salt["etcd_ha.os_data"]() %}
{%- set former = salt["etcd_ha_virtual.former"]() %}
keepalived no longer holds {{ former.address }}:
  service.dead:
    - name: {{ os.keepalived.service }}
    - enable: false
    - require:
      - sls: etcd_ha.balancer.{{ host.balancer.kind }}
{%- for path in (os.keepalived.config, former.check, former.settings, former.drop_in, former.nonlocal) %}

{{ path }} is no longer needed:
  file.absent:
    - name: {{ path }}
    - require:
      - service: keepalived no longer holds {{ former.address }}
{%- endfor %}

the user {{ former.user }} is no longer needed:
  user.absent:
    - name: {{ former.user }}
    - require:
      - service: keepalived no longer holds {{ former.address }}
{%- if host.balancer.pki %}
      - sls: etcd_ha.certificates
{%- endif %}

{#- Who runs the check of a balancer's path: a user that can do nothing else. -#}
{%- set user = salt["etcd_ha.host"]().balancer.virtual.user %}
the group {{ user }} exists:
  group.present:
    - name: {{ user }}
    - system: true

the user {{ user }} exists and cannot log in:
  user.present:
    - name: {{ user }}
    - gid: {{ user }}
    - system: true
    - createhome: false
    - shell: /usr/sbin/nologin
    - require:
      - group: the group {{ user }} exists

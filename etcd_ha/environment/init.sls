{#- What etcd reads at its start, and what root's etcdctl reads. -#}
{%- set host, os = salt["etcd_ha.host"](), salt["etcd_ha.os_data"]() %}
{%- set member = host.member %}
include:
  - etcd_ha.account
  - etcd_ha.kept

/etc/default/etcd is as the pillar wants {{ member.name }}:
  file.managed:
    - name: /etc/default/etcd
    - source: salt://etcd_ha/environment/etcd.env.jinja
    - template: jinja
    - context:
        text: {{ member.environment_text | json }}
    - user: root
    - group: {{ member.group | json }}
    - mode: "0640"
    - makedirs: true
    - require:
      - sls: etcd_ha.account
      - sls: etcd_ha.kept

etcd's configuration can be entered by {{ member.user }}:
  file.directory:
    - name: {{ member.config_dir }}
    - user: root
    - group: root
    - mode: "0755"
    - makedirs: true

root's etcdctl knows the whole cluster:
  file.managed:
    - name: {{ member.config_dir }}/etcdctl.env
    - source: salt://etcd_ha/environment/etcd.env.jinja
    - template: jinja
    - context:
        text: {{ member.client_text | json }}
    - user: root
    - group: root
    - mode: "0600"
    - require:
      - sls: etcd_ha.kept
      - file: etcd's configuration can be entered by {{ member.user }}

root's shell knows where etcdctl finds the cluster:
  file.managed:
    - name: {{ os.profile_dir }}/etcdctl.sh
    - source: salt://etcd_ha/environment/etcdctl.sh.jinja
    - template: jinja
    - context:
        file: {{ member.config_dir }}/etcdctl.env
    - user: root
    - group: root
    - mode: "0644"
    - require:
      - sls: etcd_ha.kept

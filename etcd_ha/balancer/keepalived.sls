{#- One address in front of all balancers: keepalived gives it to one whose path to the cluster works. -#}
{%- set host, os = salt["etcd_ha.host"](), salt["etcd_ha.os_data"]() %}
{%- set balancer, virtual = host.balancer, host.balancer.virtual %}
{%- set interface = virtual.interface or salt["etcd_ha_virtual.interface"](virtual.own) %}
{%- set drop_in = "/etc/systemd/system/" ~ os.keepalived.service ~ ".service.d/etcd_ha.conf" %}
the packages of keepalived are installed:
  pkg.installed:
    - pkgs: {{ os.keepalived.packages | json }}
{%- for option, value in os.package_options.items() %}
    - {{ option }}: {{ value }}
{%- endfor %}

the check of this balancer's path knows whom to ask:
  file.managed:
    - name: {{ virtual.settings }}
    - contents: {{ virtual.settings_text | json }}
    - user: root
    - group: root
    - mode: "0644"
    - makedirs: true

the check of this balancer's path is there:
  file.managed:
    - name: {{ virtual.check }}
    - source: salt://etcd_ha/balancer/check_path.py
    - template: jinja
    - context:
        python: {{ salt["etcd_ha_virtual.python"]() }}
    - user: root
    - group: root
    - mode: "0755"
    - makedirs: true
    - require:
      - sls: etcd_ha.balancer.checker

keepalived is started again when it fails:
  file.managed:
    - name: {{ drop_in }}
    - contents: |
        # Kept by Salt (etcd_ha).
        [Service]
        Restart=on-failure
        RestartSec=1
    - user: root
    - group: root
    - mode: "0644"
    - makedirs: true

an existing {{ os.keepalived.config }} is copied before etcd_ha overwrites it:
  etcd_ha.kept:
    - files: {{ [os.keepalived.config] | json }}

keepalived gives {{ virtual.address }} to a balancer that leads to {{ balancer.cluster }}:
  file.managed:
    - name: {{ os.keepalived.config }}
    - source: salt://etcd_ha/balancer/keepalived.jinja
    - template: jinja
    - context:
        virtual: {{ virtual | json }}
        cluster: {{ balancer.cluster | json }}
        minion: {{ host.minion | json }}
        interface: {{ interface | json }}
    - user: root
    - group: root
    - mode: "0644"
    - makedirs: true
    # A configuration that keepalived itself finds wrong never takes the old one's place.
    # As the first process of a namespace: keepalived 2.2 ends itself with SIGTERM in a test of scripts
    # that are not root's (acassen/keepalived#2617).
    - check_cmd: env PATH=/usr/sbin:/usr/bin:/sbin:/bin unshare --pid --fork keepalived --config-test --use-file
    - require:
      - pkg: the packages of keepalived are installed
      - etcd_ha: an existing {{ os.keepalived.config }} is copied before etcd_ha overwrites it
      - file: the check of this balancer's path knows whom to ask
      - file: the check of this balancer's path is there

keepalived runs with its present configuration:
  service.running:
    - name: {{ os.keepalived.service }}
    - enable: true
    # The address stays where it is during a reload.
    - reload: true
    - watch:
      - file: keepalived gives {{ virtual.address }} to a balancer that leads to {{ balancer.cluster }}
    - require:
      - file: keepalived is started again when it fails
      - sls: etcd_ha.balancer.{{ balancer.kind }}
{%- if balancer.pki %}
      - sls: etcd_ha.certificates
{%- endif %}

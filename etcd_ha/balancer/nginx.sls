{%- set host, os = salt["etcd_ha.host"](), salt["etcd_ha.os_data"]() %}
{%- set balancer = host.balancer %}
an existing {{ os.nginx.config }} is copied before etcd_ha overwrites it:
  etcd_ha.kept:
    - files: {{ [os.nginx.config] | json }}
    - require:
      - sls: etcd_ha.balancer.package

nginx leads clients to the members of {{ balancer.cluster }}:
  file.managed:
    - name: {{ os.nginx.config }}
    - source: salt://etcd_ha/balancer/nginx.jinja
    - template: jinja
    - context:
        balancer: {{ balancer | json }}
        os: {{ os.nginx | json }}
    - user: root
    - group: root
    - mode: "0644"
    # A configuration that nginx itself finds wrong never takes the old one's place.
    - check_cmd: env PATH=/usr/sbin:/usr/bin:/sbin:/bin nginx -t -q -c
    - require:
      - sls: etcd_ha.in_force
      - sls: etcd_ha.balancer.package
      - etcd_ha: an existing {{ os.nginx.config }} is copied before etcd_ha overwrites it
{%- if balancer.nonlocal %}
      - sls: etcd_ha.balancer.nonlocal
{%- endif %}
{%- if balancer.pki %}
      - sls: etcd_ha.certificates
{%- endif %}

nginx runs with its present configuration:
  service.running:
    - name: {{ os.nginx.service }}
    - enable: true
    # Open connections, and the watches on them, outlive a reload.
    - reload: true
    - watch:
      - file: nginx leads clients to the members of {{ balancer.cluster }}

{%- set former = salt["etcd_ha.former_balancer"]() %}
{%- if former and former != balancer.kind %}

# Both share the port meanwhile (SO_REUSEPORT), so that it is open all the time.
"{{ former }} no longer leads clients to the members of {{ balancer.cluster }}":
  service.dead:
    - name: {{ os[former].service }}
    - enable: false
    - require:
      - service: nginx runs with its present configuration
{%- if balancer.pki %}

"{{ balancer.pki.dir }}/check.pem is HAProxy's, and no longer needed":
  file.absent:
    - name: {{ balancer.pki.dir }}/check.pem
    - require:
      - service: "{{ former }} no longer leads clients to the members of {{ balancer.cluster }}"
{%- endif %}
{%- endif %}

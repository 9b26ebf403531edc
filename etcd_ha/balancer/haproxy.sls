{%- set host, os = salt["etcd_ha.host"](), salt["etcd_ha.os_data"]() %}
{%- set balancer = host.balancer %}
an existing {{ os.haproxy.config }} is copied before etcd_ha overwrites it:
  etcd_ha.kept:
    - files: {{ [os.haproxy.config] | json }}
    - require:
      - sls: etcd_ha.balancer.package
{%- if balancer.pki %}

the check of HAProxy has its certificate and its key in one file:
  etcd_ha.bundle_kept:
    - path: {{ balancer.bundle }}
    - certificate: {{ balancer.pki.dir }}/check.crt
    - key: {{ balancer.pki.dir }}/check.key
    - ca: {{ balancer.pki.ca_certificate }}
    - require:
      - sls: etcd_ha.certificates
{%- endif %}

HAProxy leads clients to the members of {{ balancer.cluster }}:
  file.managed:
    - name: {{ os.haproxy.config }}
    - source: salt://etcd_ha/balancer/haproxy.jinja
    - template: jinja
    - context:
        balancer: {{ balancer | json }}
        os: {{ os.haproxy | json }}
        trust: {{ host.trust | json }}
    - user: root
    - group: root
    - mode: "0644"
    # A configuration that HAProxy itself finds wrong never takes the old one's place.
    - check_cmd: env PATH=/usr/sbin:/usr/bin:/sbin:/bin haproxy -c -f
    - require:
      - sls: etcd_ha.in_force
      - sls: etcd_ha.balancer.package
      - etcd_ha: an existing {{ os.haproxy.config }} is copied before etcd_ha overwrites it
{%- if balancer.nonlocal %}
      - sls: etcd_ha.balancer.nonlocal
{%- endif %}
{%- if balancer.pki %}
      - etcd_ha: the check of HAProxy has its certificate and its key in one file
{%- endif %}

HAProxy runs with its present configuration:
  service.running:
    - name: {{ os.haproxy.service }}
    - enable: true
    # Open connections, and the watches on them, outlive a reload.
    - reload: true
    - watch:
      - file: HAProxy leads clients to the members of {{ balancer.cluster }}
{%- if balancer.pki %}
      # The CA too: HAProxy reads both when it starts.
      - sls: etcd_ha.certificates
      - etcd_ha: the check of HAProxy has its certificate and its key in one file
{%- endif %}

{%- set former = salt["etcd_ha.former_balancer"]() %}
{%- if former and former != balancer.kind %}

# Both share the port meanwhile (SO_REUSEPORT), so that it is open all the time.
"{{ former }} no longer leads clients to the members of {{ balancer.cluster }}":
  service.dead:
    - name: {{ os[former].service }}
    - enable: false
    - require:
      - service: HAProxy runs with its present configuration
{%- endif %}

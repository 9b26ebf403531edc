{%- set host, os = salt["etcd_ha.host"](), salt["etcd_ha.os_data"]() %}
{%- set balancer = host.balancer or host.coming.balancer %}
the packages of {{ balancer.kind }} are installed:
  pkg.installed:
    - pkgs: {{ ([balancer.package] if balancer.package else os[balancer.kind].packages) | json }}
{%- for option, value in os.package_options.items() %}
    - {{ option }}: {{ value }}
{%- endfor %}

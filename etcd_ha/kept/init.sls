{#- Files that the formula did not write are copied before it overwrites them. -#}
{%- set host, os = salt["etcd_ha.host"](), salt["etcd_ha.os_data"]() %}
{%- set files = [] %}
{%- if host.member %}
{%- do files.extend(["/etc/default/etcd", "/etc/systemd/system/" ~ host.member.unit]) %}
{%- do files.extend([host.member.config_dir ~ "/etcdctl.env", os.profile_dir ~ "/etcdctl.sh"]) %}
{%- endif %}
{%- for part in (host.member, host.balancer) if part and part.pki %}
{%- do files.append(part.pki.ca_certificate) %}
{%- for leaf in part.pki.leaves %}
{%- do files.extend([leaf.certificate, leaf.key]) %}
{%- endfor %}
{%- endfor %}
existing files are copied before etcd_ha overwrites them:
  etcd_ha.kept:
    - files: {{ files | json }}

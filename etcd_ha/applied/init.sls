{#- The last state: what this host was made from, for the orchestrate to compare. -#}
{%- set host, os = salt["etcd_ha.host"](), salt["etcd_ha.os_data"]() %}
{%- set files = ["/var/lib/etcd_ha/in_force/host.json"] %}
{%- if host.member %}
{%- do files.extend(["/etc/default/etcd", "/etc/systemd/system/" ~ host.member.unit]) %}
{%- do files.extend([host.member.config_dir ~ "/etcdctl.env", os.profile_dir ~ "/etcdctl.sh"]) %}
{%- set backup = host.member.backup %}
{%- do files.extend([backup.file] + ([backup.secrets] if backup.uses_s3 else [])) %}
{%- for unit in (backup.timer, backup.service) if backup.schedule %}
{%- do files.append("/etc/systemd/system/" ~ unit) %}
{%- endfor %}
{%- if backup.schedule %}
{%- do files.append(backup.program) %}
{%- endif %}
{%- endif %}
{%- if host.balancer %}
{%- do files.extend([os[host.balancer.kind].config] + ([host.balancer.bundle] if host.balancer.bundle else [])) %}
{%- set virtual = host.balancer.virtual %}
{%- if virtual %}
{%- do files.extend([os.keepalived.config, virtual.check, virtual.settings]) %}
{%- do files.append("/etc/systemd/system/" ~ os.keepalived.service ~ ".service.d/etcd_ha.conf") %}
{%- endif %}
{%- endif %}
{%- for part in (host.member, host.balancer) if part and part.pki %}
{%- do files.append(part.pki.ca_certificate) %}
{%- for leaf in part.pki.leaves %}
{%- do files.extend([leaf.certificate, leaf.key]) %}
{%- endfor %}
{%- endfor %}
{%- if host.firewall %}
{#- Where another firewall is in use there are none, and there are to be none. #}
{%- do files.extend(["/etc/nftables.d/etcd_ha.nft", "/etc/systemd/system/etcd_ha-firewall.service"]) %}
{%- do files.append("/etc/firewalld/policies/etcd_ha.xml") %}
{%- endif %}
{%- for ca in host.authorities %}
{%- do files.extend([ca.dir ~ "/ca.crt", ca.dir ~ "/ca.key"]) %}
{%- endfor %}
this host is as the pillar wants it:
  etcd_ha.applied:
    - host: {{ host | json }}
    - source: {{ pillar.get("etcd_ha_step", {}).get("source") | json }}
    - files: {{ files | json }}
    - require:
      - sls: etcd_ha.in_force
{%- if host.entries or host.hostname %}
      - sls: etcd_ha.hosts
{%- endif %}
{%- if host.member or host.balancer %}
      - sls: etcd_ha.firewall
{%- endif %}
{%- for part in (host.member, host.balancer) if part and part.pki and part.pki.trust_store %}
{%- if loop.first %}
      - sls: etcd_ha.trust
{%- endif %}
{%- endfor %}
{%- if host.authorities %}
      - sls: etcd_ha.authority
{%- endif %}
{%- if host.member %}
      - sls: etcd_ha.member
      - sls: etcd_ha.backup
{%- endif %}
{%- if host.balancer %}
      - sls: etcd_ha.balancer
{%- endif %}

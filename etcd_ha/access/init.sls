{#- Users, roles and authentication of the cluster: on one member, which speaks for all. No password
    stands here: a user's state is told the pillar key of it. -#}
{%- if salt["etcd_ha.host"]().keeps %}
users, roles and authentication stay as they are:
  test.succeed_without_changes:
    - comment: "pending: only salt-run state.orchestrate etcd_ha.orch changes who may do what in etcd"
{%- else %}
{%- set access = salt["etcd_ha_auth.wanted"]() %}
{%- for role in access.roles %}
"{{ access.cluster }}: the role {{ role.role }} has the pillar's permissions":
  etcd_ha.role_present:
    - role: {{ role.role | json }}
    - permissions: {{ role.permissions | json }}
{% endfor %}
{%- for user in access.users %}
"{{ access.cluster }}: the user {{ user.user }} has the pillar's roles":
  etcd_ha.user_present:
    - user: {{ user.user | json }}
    - roles: {{ user.roles | json }}
    - password_pillar: {{ user.password_pillar | json }}
{%- if access.roles %}
    - require:
{%- for role in access.roles %}
      - etcd_ha: "{{ access.cluster }}: the role {{ role.role }} has the pillar's permissions"
{%- endfor %}
{%- endif %}
{% endfor %}
{%- for user in access.unknown_users %}
"{{ access.cluster }}: user {{ loop.index }} of those that the pillar does not name is gone":
  etcd_ha.user_absent:
    - user: {{ user | json }}
{% endfor %}
{%- for role in access.unknown_roles %}
"{{ access.cluster }}: role {{ loop.index }} of those that the pillar does not name is gone":
  etcd_ha.role_absent:
    - role: {{ role | json }}
{% endfor %}
{%- if access.enabled is none %}
"{{ access.cluster }}: authentication stays as it is":
  test.succeed_without_changes: []
{%- else %}
"{{ access.cluster }}: authentication is {{ "on" if access.enabled else "off" }}":
  etcd_ha.auth_{{ "enabled" if access.enabled else "disabled" }}:
{%- if access.users %}
    - require:
{%- for user in access.users %}
      - etcd_ha: "{{ access.cluster }}: the user {{ user.user }} has the pillar's roles"
{%- endfor %}
{%- else %}
    []
{%- endif %}
{%- endif %}
{%- endif %}

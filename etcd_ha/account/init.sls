{%- set host = salt["etcd_ha.host"]() %}
{%- set member = host.member or host.coming.member %}
the group {{ member.group }} exists:
  group.present:
    - name: {{ member.group | json }}
    - system: true

the user {{ member.user }} exists and cannot log in:
  user.present:
    - name: {{ member.user | json }}
    - gid: {{ member.group | json }}
    # The files that this formula keeps get the group too; those inside the data directory are the
    # user's alone, and their group is of no meaning.
    - allow_gid_change: true
    - system: true
    - createhome: false
    - shell: /usr/sbin/nologin
    - require:
      - group: the group {{ member.group }} exists
{%- for what, path in (("data", member.places.data_dir), ("write-ahead log", member.places.wal_dir)) if path and host.member %}
{%- set parent = salt["file.dirname"](path) %}

the parent of the {{ what }} directory is there:
  file.directory:
    - name: {{ parent }}
{%- if not salt["file.directory_exists"](parent) %}
    {#- Someone else's directory keeps its owner and its mode. #}
    - mode: "0755"
{%- endif %}
    - makedirs: true

the {{ what }} directory is etcd's alone:
  file.directory:
    - name: {{ path }}
    # While etcd runs it stays who it is: etcd_ha.running gives its directories to another user.
    - user: {{ host.owner.user | json }}
    - group: {{ host.owner.group | json }}
    - mode: "0700"
    - require:
      - user: the user {{ member.user }} exists and cannot log in
      - file: the parent of the {{ what }} directory is there
{%- endfor %}

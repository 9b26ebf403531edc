{#- Asked in the preparation already: before any member is restarted for other changes of an edit. -#}
{%- set host = salt["etcd_ha.host"]() %}
{%- set member = host.member or host.coming.member %}
{%- if member.backup.schedule %}
systemd understands the schedule of backups:
  etcd_ha_backup.schedule_understood:
    - schedule: {{ member.backup.schedule | json }}
{%- else %}
backups have no schedule:
  test.succeed_without_changes: []
{%- endif %}

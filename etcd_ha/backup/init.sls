{#- Backups of a member: settings for the job, the secrets of its store, and the timer. -#}
{%- set host, os = salt["etcd_ha.host"](), salt["etcd_ha.os_data"]() %}
{%- set backup = host.member.backup %}
include:
  - etcd_ha.environment
{%- if backup.schedule %}
  - etcd_ha.backup.schedule
{%- endif %}

the settings of {{ backup.cluster }}'s backups are in place:
  file.managed:
    - name: {{ backup.file }}
    - contents: {{ backup.settings_text | json }}
    - user: root
    - group: root
    - mode: "0600"
    - require:
      - sls: etcd_ha.environment

the directory of backups is root's alone:
  file.directory:
    - name: {{ backup.directory }}
    - user: root
    - group: root
    - mode: "0700"
    - makedirs: true
{%- if backup.uses_s3 and host.pillar_secrets %}

the secrets of the store for backups are root's alone:
  etcd_ha_backup.secrets_kept:
    - path: {{ backup.secrets }}
    - cluster: {{ backup.cluster | json }}
    - require:
      - sls: etcd_ha.environment

the packages that bring backups to S3 are installed:
  pkg.installed:
    - pkgs: {{ os.backup.packages | json }}
{%- for option, value in os.package_options.items() %}
    - {{ option }}: {{ value }}
{%- endfor %}
{%- elif not backup.uses_s3 and salt["file.file_exists"](backup.secrets) %}

no secrets of a store for backups are left:
  file.absent:
    - name: {{ backup.secrets }}
{%- endif %}
{%- if backup.schedule %}

the program that takes a scheduled backup is there:
  etcd_ha_backup.program_kept:
    - path: {{ backup.program }}

the unit that takes a scheduled backup is hardened:
  file.managed:
    - name: /etc/systemd/system/{{ backup.service }}
    - source: salt://etcd_ha/backup/backup.service.jinja
    - template: jinja
    - context:
        member: {{ host.member | json }}
        command: {{ salt["etcd_ha_backup.command"]() | json }}
    - user: root
    - group: root
    - mode: "0644"

the timer of backups has the pillar's schedule:
  etcd_ha_backup.timer_kept:
    - path: /etc/systemd/system/{{ backup.timer }}
    - cluster: {{ backup.cluster | json }}
    - schedule: {{ backup.schedule | json }}
    - require:
      - etcd_ha_backup: systemd understands the schedule of backups
      - file: the settings of {{ backup.cluster }}'s backups are in place
      - etcd_ha_backup: the program that takes a scheduled backup is there
      - file: the unit that takes a scheduled backup is hardened
      - file: the directory of backups is root's alone

the timer of backups runs:
  service.running:
    - name: {{ backup.timer }}
    - enable: true
    - watch:
      - etcd_ha_backup: the timer of backups has the pillar's schedule
{%- else %}
{%- if salt["file.file_exists"]("/etc/systemd/system/" ~ backup.timer) %}

the timer of backups is stopped:
  service.dead:
    - name: {{ backup.timer }}
    - enable: false

the units of scheduled backups are gone:
  file.absent:
    - names:
      - /etc/systemd/system/{{ backup.timer }}
      - /etc/systemd/system/{{ backup.service }}
    - require:
      - service: the timer of backups is stopped
{%- endif %}
{%- if salt["file.file_exists"](backup.program) %}

the program that takes a scheduled backup is gone:
  file.absent:
    - name: {{ backup.program }}
{%- endif %}
{%- endif %}

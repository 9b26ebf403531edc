{#- Every balancer listens at the virtual address, also those that do not hold it. -#}
{%- set nonlocal = salt["etcd_ha.host"]().balancer.nonlocal %}
the kernel lets a balancer listen at an address that it does not hold:
  sysctl.present:
    - name: {{ nonlocal }}
    - value: 1
    - config: /etc/sysctl.d/30-etcd_ha.conf

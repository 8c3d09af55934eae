{{/*
What the names of all objects begin with. A name is this and a suffix of ten characters at most;
Helm refuses release names, and the schema overrides, of more than 53, so all fit into the 63 of a
DNS label uncut and stay what they are said to be: <release>-headless and so on.
*/}}
{{- define "strategy.fullname" -}}
{{- .Values.fullnameOverride | default .Release.Name }}
{{- end }}

{{/* Quoted: a release may be called "y" or "1e3", which YAML takes for something else. */}}
{{- define "strategy.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: pytest-grpclb
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- end }}

{{- define "strategy.driverSelectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: driver
{{- end }}

{{- define "strategy.balancerSelectorLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/component: balancer
{{- end }}

{{- define "strategy.balancerAccount" -}}
{{- if .Values.balancer.serviceAccount.name }}
{{- .Values.balancer.serviceAccount.name }}
{{- else if .Values.balancer.serviceAccount.create }}
{{- include "strategy.fullname" . }}-balancer
{{- else }}
{{- "default" }}
{{- end }}
{{- end }}

{{/* The backends, as the spec of a Service. An empty selector would leave it without endpoints, silently. */}}
{{- define "strategy.backendSpec" -}}
{{- if not .Values.backend.selector }}
{{- fail "backend.selector is empty; give the labels of the pods that answer, as in --set backend.selector.app=NAME" }}
{{- end -}}
selector:
  {{- toYaml .Values.backend.selector | nindent 2 }}
ports:
  - name: {{ .Values.backend.portName | quote }}
    port: {{ int .Values.backend.port }}
    targetPort: {{ .Values.backend.targetPort | default .Values.backend.port | toJson }}
    protocol: TCP
    appProtocol: kubernetes.io/h2c
{{- end }}

{{/*
What keeps a mesh's proxy out of a pod: it would pick the backends itself, and what is measured is
the mesh. Istio, with and without sidecars, and Kuma go by labels; Linkerd and Consul by annotations.
*/}}
{{- define "strategy.noMeshLabels" -}}
sidecar.istio.io/inject: "false"
istio.io/dataplane-mode: none
kuma.io/sidecar-injection: disabled
{{- end }}

{{- define "strategy.noMeshAnnotations" -}}
linkerd.io/inject: disabled
consul.hashicorp.com/connect-inject: "false"
{{- end }}

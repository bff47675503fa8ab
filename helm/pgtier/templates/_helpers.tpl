{{- define "pgtier.labels" -}}
app.kubernetes.io/name: pgtier
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "pgtier.selector" -}}
app.kubernetes.io/name: pgtier
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- /* What the operator does to policies and to what it makes for them: each verb is one that it uses. */ -}}
{{- define "pgtier.rules" -}}
- apiGroups: [pgtier.dev]
  resources: [scaletierpolicies]
  verbs: [get, list, watch]
- apiGroups: [pgtier.dev]
  resources: [scaletierpolicies/status]
  verbs: [patch]
# ownerReferences with blockOwnerDeletion, where a policy says deletionPolicy: Remove
- apiGroups: [pgtier.dev]
  resources: [scaletierpolicies/finalizers]
  verbs: [update]
# patch: of metadata.finalizers alone; what else it may write of a policy is its status
- apiGroups: [pgtier.dev]
  resources: [shadowtablepolicies]
  verbs: [get, list, watch, patch]
- apiGroups: [pgtier.dev]
  resources: [shadowtablepolicies/status]
  verbs: [patch]
- apiGroups: [pgtier.dev]
  resources: [sqlmigrations]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [pgtier.dev]
  resources: [sqlmigrations/status]
  verbs: [patch]
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch, delete]
- apiGroups: [""]
  resources: [secrets, configmaps]
  verbs: [get, list, watch, create, patch]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [persistentvolumeclaims]
  verbs: [list, watch, patch, delete]
# Whether a volume may grow. Of the cluster: with watchNamespace it is not granted, and growth is tried without looking.
- apiGroups: [storage.k8s.io]
  resources: [storageclasses]
  verbs: [get]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}

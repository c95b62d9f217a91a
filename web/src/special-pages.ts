import type { ComponentType } from "react";

/** Record pages written by hand, by the `detail` of their screen. */
export const SPECIAL_PAGES: Record<string, () => Promise<{ default: ComponentType<{ name: string }> }>> = {
  account: async () => ({ default: (await import("@/features/account/account")).AccountPage }),
  opportunity: async () => ({
    default: (await import("@/features/opportunity/opportunity")).OpportunityPage,
  }),
  visit: async () => ({ default: (await import("@/features/visit/visit")).VisitPage }),
  policy: async () => ({ default: (await import("@/features/policy/policy")).PolicyPage }),
  bundle: async () => ({ default: (await import("@/features/bundle/bundle")).BundlePage }),
  poolRule: async () => ({ default: (await import("@/features/pool-rule/pool-rule")).PoolRulePage }),
  leadPoolRule: async () => ({ default: (await import("@/features/pool-rule/pool-rule")).LeadPoolRulePage }),
  collision: async () => ({ default: (await import("@/features/collision/collision")).CollisionPage }),
  merge: async () => ({ default: (await import("@/features/merge/merge")).MergePage }),
  quote: async () => ({ default: (await import("@/features/quote/quote")).QuotePage }),
  approvalPolicy: async () => ({
    default: (await import("@/features/approval-policy/approval-policy")).ApprovalPolicyPage,
  }),
  transfer: async () => ({ default: (await import("@/features/transfer/transfer")).TransferPage }),
  target: async () => ({ default: (await import("@/features/target/target")).TargetPage }),
  callList: async () => ({ default: (await import("@/features/call-desk/call-list")).CallListPage }),
  employee: async () => ({ default: (await import("@/features/employee/employee")).EmployeePage }),
  mail: async () => ({ default: (await import("@/features/mail/mail")).MailRecordPage }),
  auditEntry: async () => ({ default: (await import("@/features/audit/entry")).AuditEntryPage }),
  territoryPlan: async () => ({
    default: (await import("@/features/territory/plan")).TerritoryPlanPage,
  }),
  dictionary: async () => ({ default: (await import("@/features/dictionary/dictionary")).DictionaryPage }),
  numberRule: async () => ({ default: (await import("@/features/number-rule/number-rule")).NumberRulePage }),
  proposal: async () => ({ default: (await import("@/features/proposal/proposal")).ProposalPage }),
  appraisal: async () => ({ default: (await import("@/features/appraisal/appraisal")).AppraisalPage }),
  gradingRule: async () => ({ default: (await import("@/features/grading/grading-rule")).GradingRulePage }),
  post: async () => ({ default: (await import("@/features/boards/post")).PostPage }),
  file: async () => ({ default: (await import("@/features/documents/file")).FilePage }),
  department: async () => ({ default: (await import("@/features/team/department")).DepartmentPage }),
  role: async () => ({ default: (await import("@/features/role/role")).RolePage }),
};

import type { ComponentType } from "react";
import { createBrowserRouter, type RouteObject } from "react-router";
import { Shell } from "@/features/shell/shell";
import { PageError } from "@/features/shell/page-error";

const page = (path: string, load: () => Promise<ComponentType>): RouteObject => ({
  path,
  lazy: async () => ({ Component: await load() }),
  ErrorBoundary: PageError,
});

export const router = createBrowserRouter(
  [
    {
      path: "/",
      Component: Shell,
      ErrorBoundary: PageError,
      HydrateFallback: () => null,
      children: [
        page("", async () => (await import("@/features/home/home")).HomePage),
        page("funnel", async () => (await import("@/features/funnel/funnel")).FunnelPage),
        page("forecast", async () => (await import("@/features/forecast/forecast")).ForecastPage),
        page("performance", async () => (await import("@/features/appraisal/appraisal")).PerformancePage),
        page("win-rates", async () => (await import("@/features/win-rates/win-rates")).WinRatesPage),
        page("usage", async () => (await import("@/features/usage/usage")).UsagePage),
        page("work-record", async () => (await import("@/features/work-record/work-record")).WorkRecordPage),
        page("visit-day", async () => (await import("@/features/visit/visit-day")).VisitDayPage),
        page("sea", async () => (await import("@/features/sea/sea")).SeaPage),
        page("lead-pools", async () => (await import("@/features/sea/sea")).LeadPoolsPage),
        page("calendar", async () => (await import("@/features/calendar/calendar")).CalendarPage),
        page("audit", async () => (await import("@/features/audit/audit")).AuditPage),
        page("centre", async () => (await import("@/features/boards/centre")).CentrePage),
        page("profile", async () => (await import("@/features/profile/profile")).ProfilePage),
        page("documents", async () => (await import("@/features/documents/documents")).DocumentsPage),
        page("experts", async () => (await import("@/features/team/experts")).ExpertsPage),
        page("my-day", async () => (await import("@/features/my-day/my-day")).MyDayPage),
        page("call-desk", async () => (await import("@/features/call-desk/call-desk")).CallDeskPage),
        page("till", async () => (await import("@/features/shop/till")).TillPage),
        page("mail", async () => (await import("@/features/mail/mail")).MailPage),
        page("mailMessages/new", async () => (await import("@/features/mail/writing")).WritePage),
        page("punch", async () => (await import("@/features/punch/punch")).PunchPage),
        page("approvals", async () => (await import("@/features/approvals/approvals")).ApprovalsPage),
        page(
          "account-requests",
          async () => (await import("@/features/account-requests/account-requests")).AccountRequestsPage,
        ),
        page(
          "notifications",
          async () => (await import("@/features/notifications/notifications")).NotificationsPage,
        ),
        page("my-sessions", async () => (await import("@/features/sessions/sessions")).SessionsPage),
        page("backups", async () => (await import("@/features/backup/backups")).BackupsPage),
        page("backups/recovery", async () => (await import("@/features/backup/recovery")).RecoveryPage),
        page("keys", async () => (await import("@/features/keys/keys")).KeysPage),
        page(
          "import/departments",
          async () => (await import("@/features/imports/departments")).DepartmentImportPage,
        ),
        page(
          "import/opportunities/past",
          async () => (await import("@/features/imports/deals")).DealImportPage,
        ),
        page("import/:collection", async () => (await import("@/features/imports/wizard")).ImportPage),
        page(":collection", async () => (await import("@/features/collection/collection")).CollectionPage),
        page(":collection/new", async () => (await import("@/features/form/form-page")).NewPage),
        page(":collection/:id", async () => (await import("@/features/record/record-page")).RecordPage),
        page(":collection/:id/edit", async () => (await import("@/features/form/form-page")).EditPage),
      ],
    },
    page("/shop", async () => (await import("@/features/shop/shop")).ShopPage),
    page("/f/:id", async () => (await import("@/features/web-form/web-form")).WebFormPage),
    page("/q", async () => (await import("@/features/quote/buyer")).BuyerPage),
    page("/signed-in", async () => (await import("@/features/shell/signed-in")).SignedInPage),
  ],
  { basename: import.meta.env.BASE_URL },
);
